/** Keeps a lease alive, and knows when it can no longer be trusted. */
import { type Clock, Duration, Effect, Exit } from "effect"
import type { RedisError } from "../RedisError.ts"
import { monotonicMillis } from "./monotonic.ts"

/** How a lease ended: the server says that it is not ours, or could not be asked before it passed. */
export type Loss = "removed" | "unconfirmed"

/** A lease as its holder sees it, by its own monotonic clock. */
export interface KeptLease {
  /** How it was lost, if it was. */
  readonly loss: () => Loss | undefined
  /** Has it last `ttlMillis` from now, at least. False when it is lost. */
  readonly extend: (ttlMillis: number) => Effect.Effect<boolean, RedisError>
  /** Extends it each third of its time. Ends when it is lost. */
  readonly keep: Effect.Effect<Loss>
}

// The work is interrupted this much before the lease passes, so that it has ended by then.
const marginOf = (ttlMillis: number) => ttlMillis / 10

/** A lease got at `since`: monotonic time taken before the request was sent, so that it never passes later than we think. */
export const keptLease = (clock: Clock.Clock, options: {
  readonly ttlMillis: number
  readonly since: number
  readonly extend: (ttlMillis: number, timeoutMillis?: number) => Effect.Effect<boolean, RedisError>
}): KeptLease => {
  const { ttlMillis } = options
  let extended = options.since
  let deadline = extended + ttlMillis - marginOf(ttlMillis)
  let removed = false

  const extend = (millis: number, timeoutMillis?: number) =>
    Effect.suspend(() => {
      const sent = monotonicMillis(clock)
      return Effect.map(options.extend(millis, timeoutMillis), (held) => {
        if (held) {
          extended = sent
          deadline = Math.max(deadline, sent + millis - marginOf(millis))
        } else removed = true
        return held
      })
    })

  const loss = () => removed ? "removed" : monotonicMillis(clock) >= deadline ? "unconfirmed" : undefined

  const pause = (millis: number) => Effect.flatMap(clock.sleep(Duration.millis(millis)), () => keep)

  const keep: Effect.Effect<Loss> = Effect.suspend(() => {
    const lost = loss()
    if (lost !== undefined) return Effect.succeed(lost)
    const now = monotonicMillis(clock)
    const left = deadline - now
    const due = extended + ttlMillis / 3 - now
    if (due > 0) return pause(Math.min(due, left))
    // Long enough for a slow reply, short enough to try once more on a new connection.
    const timeoutMillis = Math.min(left, Math.max(500, Math.min(5000, ttlMillis / 4)))
    return extend(ttlMillis, timeoutMillis).pipe(
      Effect.exit,
      // Whatever becomes of the request, the deadline holds.
      Effect.raceFirst(Effect.as(clock.sleep(Duration.millis(left)), Exit.succeed(false))),
      Effect.flatMap((exit) => Exit.isSuccess(exit) ? keep : pause(Math.min(ttlMillis / 30, left)))
    )
  })

  return { loss, extend, keep }
}
