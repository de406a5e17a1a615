/** Counts what callers are told, and how long they go without an acknowledgement. */
import { Effect, Result } from "effect"
import type { RedisError } from "../../src/RedisError.ts"

/** Of one kind of call. */
export interface Tally {
  calls: number
  acknowledged: number
  /** Callbacks of `use` that were called once more. */
  again: number
  /** By outcome and reason, like `NotSent connection`. */
  readonly failed: Map<string, number>
  /** The longest that a caller went without an acknowledgement. */
  pauseMillis: number
}

export const makeTally = (): Tally => ({ calls: 0, acknowledged: 0, again: 0, failed: new Map(), pauseMillis: 0 })

/** Makes calls one after the other. */
export type Caller = <A, E>(call: Effect.Effect<A, RedisError | E>) => Effect.Effect<Result.Result<A, RedisError | E>>

/** A caller whose calls count in `tally`. Errors that are not Redis' are for itself to count. */
export const makeCaller = (tally: Tally): Caller => {
  let since = performance.now()
  return (call) =>
    Effect.map(
      Effect.suspend(() => {
        tally.calls++
        return Effect.result(call)
      }),
      (outcome) => {
        const now = performance.now()
        if (Result.isSuccess(outcome)) {
          tally.acknowledged++
          tally.pauseMillis = Math.max(tally.pauseMillis, now - since)
          since = now
        } else if (isRedisError(outcome.failure)) {
          const what = `${outcome.failure.outcome} ${outcome.failure.reason}`
          tally.failed.set(what, (tally.failed.get(what) ?? 0) + 1)
        }
        return outcome
      }
    )
}

export const isRedisError = (error: unknown): error is RedisError =>
  typeof error === "object" && error !== null && "_tag" in error && error._tag === "RedisError"

/** How many calls ended so: `Unknown`, or `Unknown timeout`. */
export const countFailed = ({ failed }: Tally, what: string): number => {
  let total = 0
  for (const [key, count] of failed) if (key === what || key.startsWith(`${what} `)) total += count
  return total
}
