/** What a rate limiter does while Redis is away. */
import { Clock, Effect, Result } from "effect"
import { InvalidInput, type RedisError, type RedisErrorReason } from "../RedisError.ts"
import { monotonicMillis } from "./monotonic.ts"

/**
 * What to do while Redis cannot be reached or cannot count:
 * - `fail`: fail with the RedisError
 * - `allow`: let everything pass
 * - `deny`: let nothing pass
 * - `local`: count in this process, and let this share (above 0, up to 1) of each limit pass, like 0.25 for one of four
 *   processes. Buckets keep room for one call at a time; a window whose share is below a call's cost lets none pass.
 */
export type OnUnavailable = "fail" | "allow" | "deny" | { readonly local: number }

/** Refuses a share that is none. */
export const checkPolicy = (policy: OnUnavailable): Result.Result<OnUnavailable, InvalidInput> =>
  typeof policy === "object" && !(policy.local > 0 && policy.local <= 1)
    ? Result.fail(new InvalidInput({ input: "local share", problem: "it is not above 0 and at most 1" }))
    : Result.succeed(policy)

// It cannot be reached, or cannot count. What a change of the program or the server's rules has to mend is not here.
const away: ReadonlySet<RedisErrorReason> = new Set([
  "connection",
  "timeout",
  "loading",
  "cluster-down",
  "read-only",
  "out-of-memory"
])

/** How long Redis is left alone after it did not answer, before one call tries again. */
export const outageMillis = 1000

/**
 * Asks Redis, or does `instead` when it is away. While it stays away only one call in each `outageMillis` waits for it,
 * so that an outage does not cost every call its deadline.
 */
export const makeOutage = () => {
  let awayUntil = 0
  return <A, B>(
    ask: Effect.Effect<A, RedisError>,
    instead: Effect.Effect<B, RedisError>
  ): Effect.Effect<A | B, RedisError> =>
    Clock.clockWith((clock): Effect.Effect<A | B, RedisError> => {
      const now = monotonicMillis(clock)
      if (now < awayUntil) return instead
      if (awayUntil > 0) awayUntil = now + outageMillis
      return Effect.matchEffect(ask, {
        onSuccess: (answer) => {
          awayUntil = 0
          return Effect.succeed(answer)
        },
        onFailure: (error) => {
          if (!away.has(error.reason)) return Effect.fail(error)
          awayUntil = monotonicMillis(clock) + outageMillis
          return instead
        }
      })
    })
}
