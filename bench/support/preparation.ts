/** What a run needs beforehand, and what it ran on. */
import { execFileSync } from "node:child_process"
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync } from "node:fs"
import { cpus, release, totalmem, type } from "node:os"
import { dirname, join, resolve } from "node:path"

const bench = resolve(import.meta.dirname, "..")
const root = resolve(bench, "..")

const npm = (directory: string, ...args: ReadonlyArray<string>) => {
  const cli = process.env["npm_execpath"]
  const [command, first] = cli === undefined ? ["npm", []] : [process.execPath, [cli]]
  // Its output is no result.
  execFileSync(command, [...first, ...args], { cwd: directory, stdio: ["ignore", 2, 2] })
}

const changedAt = (path: string) => existsSync(path) ? statSync(path).mtimeMs : 0

/** Installs the peers, unless they are there as the lockfile says. */
export const installPeers = (): void => {
  const installed = changedAt(join(bench, "node_modules/.package-lock.json"))
  if (installed < changedAt(join(bench, "package-lock.json"))) npm(bench, "ci", "--no-audit", "--no-fund")
}

/** Builds the library when a source is newer than what was built, and puts it where programs here find it. */
export const requireBuild = (): void => {
  const sources = readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" })
  const newest = Math.max(...sources.map((name) => changedAt(join(root, "src", name))))
  if (changedAt(join(root, "dist/index.js")) < newest) npm(root, "run", "build")
  // A program in this directory belongs to bench/package.json, so it cannot import the library by its name without this.
  const link = join(bench, "node_modules/effect-redis-kit")
  mkdirSync(dirname(link), { recursive: true })
  if (!existsSync(link)) symlinkSync(root, link, "junction")
}

/** The library and what it stands on, as installed. */
export const versions = (): Readonly<Record<string, string>> => ({
  "effect-redis-kit": manifest(root).version,
  ...versionsIn(root, ["effect", "ioredis"])
})

/** The packages that it is measured beside, as installed. */
export const peerVersions = (): Readonly<Record<string, string>> => ({
  ...versionsIn(root, ["@effect/platform-node", "redis"]),
  ...versionsIn(bench, Object.keys(manifest(bench).dependencies ?? {}))
})

const versionsIn = (directory: string, names: ReadonlyArray<string>) =>
  Object.fromEntries(names.map((name) => [name, manifest(join(directory, "node_modules", name)).version]))

const manifest = (directory: string) =>
  JSON.parse(readFileSync(join(directory, "package.json"), "utf8")) as {
    readonly version: string
    readonly dependencies?: Readonly<Record<string, string>>
  }

/** The machine, and our commit; a `+` says that there are changes on top of it. */
export const describeMachine = () => ({
  commit: commit(),
  cores: cpus().length,
  cpu: cpus()[0]?.model ?? "unknown",
  memoryGb: Math.round(totalmem() / 2 ** 30),
  kernel: `${type()} ${release()}`,
  node: process.version
})

const commit = (): string => {
  const git = (...args: ReadonlyArray<string>) =>
    execFileSync("git", args, { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim()
  try {
    return git("rev-parse", "--short=12", "HEAD") + (git("status", "--porcelain") === "" ? "" : "+")
  } catch {
    return "unknown"
  }
}
