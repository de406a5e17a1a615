/** A wall clock that is wrong, or set, while programs in this process run: all that they read of it is `Date.now`. */
import { Effect, type Scope } from "effect"

export const hourMillis = 3_600_000

const right = Date.now

/** From now on the clock is off by `millis`, until the scope closes. Timers and the monotonic clock go on as before. */
export const setClock = (millis: number): Effect.Effect<void, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      Date.now = () => right() + millis
    }),
    () =>
      Effect.sync(() => {
        Date.now = right
      })
  )

/** What the right clock says. */
export const rightTime = (): number => right()
