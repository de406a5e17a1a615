/** Work that callers share. */
import { Clock, Effect, Fiber, type Scope } from "effect"

/**
 * `self` as one flight: whoever asks while it runs waits for its outcome, and gets it again for `keepMillis` after it
 * ended. It runs in this scope, so that a caller who gives up takes it from nobody.
 */
export const oneFlight = <A, E, R>(
  self: Effect.Effect<A, E, R>,
  keepMillis: number
): Effect.Effect<Effect.Effect<A, E, R>, never, Scope.Scope> =>
  Effect.map(Effect.scope, (scope) => {
    interface Flight {
      readonly fiber: Fiber.Fiber<A, E>
      readonly ended: { at: number | undefined }
    }
    let last: Flight | undefined
    const start = Effect.suspend(() => {
      const ended: Flight["ended"] = { at: undefined }
      const run = Effect.onExit(self, () =>
        Effect.map(Clock.currentTimeMillis, (now) => {
          ended.at = now
        }))
      return Effect.map(Effect.forkIn(run, scope), (fiber) => {
        last = { fiber, ended }
        return fiber
      })
    })
    return Effect.flatMap(Clock.currentTimeMillis, (now) => {
      if (last === undefined) return Effect.flatMap(start, Fiber.join)
      const { ended: { at }, fiber } = last
      // A clock that was set back makes an outcome neither younger nor older: it is asked for again.
      const current = at === undefined || (now >= at && now - at < keepMillis)
      return Effect.flatMap(current ? Effect.succeed(fiber) : start, Fiber.join)
    })
  })
