/** Acquisitions that leave nothing behind when they fail. */
import { Effect, Exit, Scope } from "effect"

/** What `acquire` takes is given back with the caller's scope; when it fails or is interrupted, at once. */
export const allOrNothing = <A, E, R>(acquire: Effect.Effect<A, E, R>): Effect.Effect<A, E, R | Scope.Scope> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(
      Effect.scope,
      (outer) =>
        Effect.flatMap(Scope.fork(outer), (own) =>
          Effect.onExit(restore(Effect.provideService(acquire, Scope.Scope, own)), (exit) =>
            Exit.isFailure(exit) ? Scope.close(own, exit) : Effect.void))
    )
  )
