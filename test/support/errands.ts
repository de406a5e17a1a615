/** Workers in processes of their own, and one here, on the same queue of errands. */
import { Effect, type Scope } from "effect"
import type { JobWorkerOptions } from "../../src/JobWorker.ts"
import { Errand } from "./errandJob.ts"
import { NodeProcess } from "./processes.ts"
import { sharedRedisUrl, uniqueNamespace } from "./sharedRedis.ts"
import { type Side, side } from "./twoSides.ts"

export interface Errands {
  readonly queue: Side["queue"]
  /** A worker in a process of its own, ready to be woken up. */
  readonly start: (name: string, options?: JobWorkerOptions) => Effect.Effect<NodeProcess, never, Scope.Scope>
  /** A worker here, for which every errand is an `echo`. Yields what it has started: text, attempt and fencing token. */
  readonly work: (options?: JobWorkerOptions) => Effect.Effect<ReadonlyArray<Started>, never, Scope.Scope>
}

export interface Started {
  readonly text: string
  readonly attempt: number
  readonly token: number
}

/** A queue of errands of its own. */
export const errands: Effect.Effect<Errands, never, Scope.Scope> = Effect.gen(function*() {
  const namespace = uniqueNamespace()
  const { queue, work } = yield* side({ namespace })
  const fixture = new URL("./fixtures/errandProcess.ts", import.meta.url)
  return {
    queue,
    start: (name, options = {}) =>
      Effect.tap(
        NodeProcess.start(fixture, { args: [name, sharedRedisUrl(), namespace, JSON.stringify(options)] }),
        (child) => child.waitForLine("ready")
      ),
    work: (options) =>
      Effect.gen(function*() {
        const started: Array<Started> = []
        yield* work([
          Errand.handler(({ text }, { attempt, fencingToken }) =>
            Effect.sync(() => {
              started.push({ text, attempt, token: fencingToken })
              return `${text} here`
            })
          )
        ], { poll: 20, ...options })
        return started
      })
  }
})

/** What a process has printed of jobs that it started. */
export const startedIn = ({ output }: NodeProcess): ReadonlyArray<Started> =>
  Array.from(output.matchAll(/^started (.*) attempt (\d+) token (\d+)$/gm), ([, text = "", attempt, token]) => ({
    text,
    attempt: Number(attempt),
    token: Number(token)
  }))
