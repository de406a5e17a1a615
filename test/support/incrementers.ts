/** Callers that increment counters all the time, and what each of them was told. */
import { Effect, Fiber } from "effect"
import type { RedisClient } from "../../src/RedisClient.ts"
import type { RedisError } from "../../src/RedisError.ts"

export interface Increments {
  /** How many calls were answered. */
  readonly acknowledged: number
  /** Those that failed. */
  readonly failures: ReadonlyArray<RedisError>
  /** The longest that any took, in milliseconds. */
  readonly slowest: number
}

/** Runs `callers` that each increment the keys in turn, one call after another, while `during` runs. */
export const incrementWhile = <A, E, R>(
  { use }: RedisClient["Service"],
  keys: ReadonlyArray<string>,
  callers: number,
  during: Effect.Effect<A, E, R>
): Effect.Effect<Increments, E, R> =>
  Effect.gen(function*() {
    const end = { reached: false }
    let acknowledged = 0
    let slowest = 0
    const failures: Array<RedisError> = []
    const call = (turn: number) => {
      const before = performance.now()
      return use("incr", (redis) => redis.incr(keys[turn % keys.length]!)).pipe(
        Effect.match({
          onSuccess: () => {
            acknowledged++
          },
          onFailure: (error) => {
            failures.push(error)
          }
        }),
        Effect.andThen(Effect.sync(() => {
          slowest = Math.max(slowest, performance.now() - before)
        }))
      )
    }
    const caller = (first: number) =>
      Effect.gen(function*() {
        for (let turn = first; !end.reached; turn++) yield* call(turn)
      })
    const all = yield* Effect.forkChild(
      Effect.forEach(Array.from({ length: callers }, (_, i) => i), caller, { concurrency: "unbounded" })
    )
    yield* Effect.ensuring(during, Effect.sync(() => end.reached = true))
    yield* Fiber.join(all)
    return { acknowledged, failures, slowest }
  })
