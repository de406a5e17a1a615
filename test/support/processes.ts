/** A second process: a TypeScript file run by the same Node, for tests of what holds between processes. */
import { Effect, type Scope, Stream } from "effect"
import { EventEmitter, once } from "node:events"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { type Exited, spawnChild } from "./childProcess.ts"

export interface NodeProcessOptions {
  readonly args?: ReadonlyArray<string>
  /** On top of our own environment; `undefined` takes a variable away. */
  readonly env?: Readonly<Record<string, string | undefined>>
}

export interface NodeProcess {
  readonly pid: number
  /** Its stdout, from the first line on whenever one subscribes, until it ends. */
  readonly lines: Stream.Stream<string>
  /** The first line of stdout, printed before or yet to come, that matches. Dies when there is none in time. */
  readonly waitForLine: (
    match: string | RegExp | ((line: string) => boolean),
    withinMillis?: number
  ) => Effect.Effect<string>
  /** Writes a line to its stdin. */
  readonly send: (line: string) => Effect.Effect<void>
  /** Sends a signal (default SIGKILL) and waits until the process is gone. */
  readonly kill: (signal?: NodeJS.Signals) => Effect.Effect<Exited>
  readonly pause: Effect.Effect<void>
  readonly resume: Effect.Effect<void>
  /** Waits until it ends by itself and its output was read. */
  readonly exit: Effect.Effect<Exited>
  /** All it has printed, stdout and stderr. */
  readonly output: string
}

/** Runs `file` (`new URL("./worker.ts", import.meta.url)`) for as long as the scope is open, then kills it. */
const start = (file: URL, options: NodeProcessOptions = {}): Effect.Effect<NodeProcess, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.promise(() => launch(file, options)),
      ({ close }) => Effect.promise(close)
    ),
    ({ process }) => process
  )

export const NodeProcess = { start }

const launch = async (file: URL, options: NodeProcessOptions) => {
  const path = fileURLToPath(file)
  const child = await spawnChild(process.execPath, [path, ...options.args ?? []], {
    env: { ...process.env, ...options.env }
  })
  const changes = new EventEmitter().setMaxListeners(0)
  const lines: Array<string> = []
  let ended = false
  let output = ""
  for (const stream of [child.process.stdout, child.process.stderr]) {
    stream.setEncoding("utf8").on("data", (text) => output += text)
  }
  createInterface({ input: child.process.stdout })
    .on("line", (line) => {
      lines.push(line)
      changes.emit("change")
    })
    .on("close", () => {
      ended = true
      changes.emit("change")
    })
  const change = Effect.promise((signal) => once(changes, "change", { signal }).catch(() => {}))

  const next = (index: number): Effect.Effect<readonly [string, number] | undefined> =>
    Effect.suspend(() => {
      const line = lines[index]
      if (line !== undefined) return Effect.succeed([line, index + 1] as const)
      return ended ? Effect.undefined : Effect.flatMap(change, () => next(index))
    })

  const find = async (matches: (line: string) => boolean, wanted: string, withinMillis: number) => {
    const late = AbortSignal.timeout(withinMillis)
    for (let index = 0;;) {
      const line = lines[index]
      if (line !== undefined) {
        if (matches(line)) return line
        index += 1
      } else if (ended || late.aborted) {
        if (ended) await child.closed
        const why = ended ? "ended without" : `had not printed within ${withinMillis} ms`
        throw new Error(`${path} ${why} the line ${wanted}:\n${output}`)
      } else {
        await once(changes, "change", { signal: late }).catch(() => {})
      }
    }
  }

  const self: NodeProcess = {
    pid: child.pid,
    lines: Stream.unfold(0, next),
    waitForLine: (match, withinMillis = 10_000) =>
      Effect.promise(() =>
        find(
          (line) =>
            typeof match === "string" ? line.includes(match) : match instanceof RegExp ? match.test(line) : match(line),
          String(match),
          withinMillis
        )
      ),
    send: (line) => Effect.sync(() => child.process.stdin.write(`${line}\n`)),
    kill: (signal = "SIGKILL") => Effect.promise(() => child.kill(signal)),
    pause: Effect.promise(() => child.pause()),
    resume: Effect.sync(() => child.resume()),
    exit: Effect.promise(() => child.closed.then(() => child.exited)),
    get output() {
      return output
    }
  }
  return { process: self, close: () => child.kill("SIGKILL") }
}
