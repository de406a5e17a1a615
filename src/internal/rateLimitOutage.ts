/** What a rate limiter does while Redis is away. */
import { Clock, Effect } from "effect"
import type { RedisError, RedisErrorReason } from "../RedisError.ts"

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

/** Effect's monotonic time in milliseconds. */
export const monotonicMillis = (clock: Clock.Clock) => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
