/** What the documentation shows is true: docstring examples compile, and README's code is code that CI runs. */
import { assert, describe, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import { existsSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { promisify } from "node:util"

const root = join(import.meta.dirname, "..")
const read = (path: string) => readFileSync(join(root, path), "utf8")

/** The code blocks of a file's docstrings. */
const examplesOf = (path: string): ReadonlyArray<string> =>
  Array.from(
    read(path).matchAll(/^ *\* ```ts\n([\s\S]*?)^ *\* ```$/gm),
    ([, block]) => block!.replace(/^ *\* ?/gm, "")
  )

describe("The documentation", () => {
  it("has docstring examples that compile", { timeout: 120_000 }, async () => {
    mkdirSync(join(root, "node_modules/.cache"), { recursive: true })
    // Below node_modules, where packages are found and nothing else looks.
    const directory = mkdtempSync(join(root, "node_modules/.cache/docs-"))
    try {
      const files = globSync("src/**/*.ts", { cwd: root }).flatMap((path) =>
        examplesOf(path).map((code, i) => {
          const file = `${path.replaceAll(/[^\w]/g, "_")}_${i}.ts`
          writeFileSync(join(directory, file), code)
          return file
        })
      )
      assert.isAbove(files.length, 10)
      const { compilerOptions } = JSON.parse(read("tsconfig.json").replace(/^\s*\/\/.*$/gm, ""))
      writeFileSync(
        join(directory, "tsconfig.json"),
        JSON.stringify({
          files,
          compilerOptions: {
            ...compilerOptions,
            // Examples show what they show, and need not use it.
            noUnusedLocals: false,
            plugins: [],
            typeRoots: [join(root, "node_modules/@types")],
            paths: {
              "effect-redis-kit": [join(root, "src/index.ts")],
              "effect-redis-kit/http": [join(root, "src/http/index.ts")]
            }
          }
        })
      )
      const { stdout } = await promisify(execFile)(
        process.execPath,
        [join(root, "node_modules/typescript/bin/tsc"), "--project", directory, "--pretty", "false"],
        { cwd: root }
      ).catch((error: { readonly stdout: string }) => error)
      assert.strictEqual(stdout, "")
    } finally {
      rmSync(directory, { recursive: true, force: true })
    }
  })

  it("shows in README only code that is in examples", () => {
    const examples = globSync("examples/**/*.ts", { cwd: root }).map(read)
    const blocks = Array.from(read("README.md").matchAll(/^```ts\n([\s\S]*?)^```$/gm), ([, block]) => block!)
    assert.isNotEmpty(blocks)
    for (const block of blocks) {
      assert.isTrue(examples.some((example) => example.includes(block)), `not found in examples/:\n${block}`)
    }
  })

  it("links in READMEs to files that exist", () => {
    for (const readme of ["README.md", "examples/service/README.md"]) {
      const links = Array.from(read(readme).matchAll(/\]\((?!https?:|#)([^)#\s]+)/g), ([, path]) => path!)
      assert.isNotEmpty(links)
      for (const path of links) assert.isTrue(existsSync(join(root, dirname(readme), path)), `${readme}: ${path}`)
    }
  })

  it("lists every variable that the connection and the example service read", () => {
    for (
      const [source, list] of [
        ["src/RedisConfig.ts", ".env.example"],
        ["examples/service/config.ts", "examples/service/README.md"]
      ] as const
    ) {
      const variables = Array.from(read(source).matchAll(/"([A-Z][A-Z_]{3,})"/g), ([, name]) => name!)
      assert.isAbove(variables.length, 10)
      for (const name of variables) assert.match(read(list), new RegExp(`\\b${name}\\b`), `${name} is not in ${list}`)
    }
  })
})
