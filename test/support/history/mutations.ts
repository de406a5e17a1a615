/** The sources with one promise taken out: a checker that finds nothing wrong with them would find nothing, ever. */
import { Effect, type Scope } from "effect"
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { pathToFileURL } from "node:url"

/** A piece of a source file, and what stands in its place when the promise is broken. */
export interface Mutation {
  readonly file: string
  readonly text: string
  readonly instead: string
}

export const mutations = {
  /** Whoever says that it holds a job is believed. */
  noTokenCheck: {
    file: "src/internal/queueReporting.ts",
    text: "if held[n] ~= token then",
    instead: "if false then"
  },
  /** A job whose holder has gone is taken back by nobody. */
  noReaper: {
    file: "src/internal/queueReporting.ts",
    text: `ipairs(redis.call("ZRANGEBYSCORE", leases, "-inf", now_ms, "LIMIT", 0, 100))`,
    instead: "ipairs({})"
  }
} as const satisfies Record<string, Mutation>

const root = new URL("../../../", import.meta.url)

/** Where the fixtures of a changed copy of the sources are. Dies unless the text to change is there, and once. */
export const mutated = ({ file, instead, text }: Mutation): Effect.Effect<URL, never, Scope.Scope> =>
  Effect.gen(function*() {
    const directory = yield* Effect.acquireRelease(
      Effect.promise(() => mkdtemp(join(tmpdir(), "mutated-"))),
      (directory) => Effect.promise(() => rm(directory, { recursive: true, force: true }))
    )
    yield* Effect.promise(async () => {
      for (const name of ["package.json", "src", "test/support"]) {
        await cp(new URL(name, root), join(directory, name), { recursive: true })
      }
      await symlink(new URL("node_modules", root), join(directory, "node_modules"))
      const source = await readFile(join(directory, file), "utf8")
      if (source.split(text).length !== 2) {
        throw new Error(`${file} does not hold the text of the mutation once; has it changed?\n${text}`)
      }
      await writeFile(join(directory, file), source.replace(text, () => instead))
    })
    return pathToFileURL(join(directory, "test/support/fixtures/"))
  })
