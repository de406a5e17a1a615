/** Tells responses that never end by themselves that the server is about to. */
import { Context, Deferred, Effect, Layer } from "effect"

export class Stopping extends Context.Service<Stopping, {
  /** Returns once the server stops. */
  readonly begun: Effect.Effect<void>
  readonly begin: Effect.Effect<void>
}>()("clinic/Stopping") {
  static readonly layer = Layer.effect(
    this,
    Effect.map(
      Deferred.make<void>(),
      (stop) => Stopping.of({ begun: Deferred.await(stop), begin: Effect.asVoid(Deferred.succeed(stop, undefined)) })
    )
  )
}
