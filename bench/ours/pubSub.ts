/** Our channels, with default options. */
import { Effect, Layer, ManagedRuntime, Schema, Stream } from "effect"
import { Channel, PubSub, PubSubLive, Redis } from "effect-redis-kit"
import type { PubSubAdapter } from "../pubsub.ts"
import type { Open } from "../support/case.ts"

const Statuses = Channel.make(
  "statuses",
  Schema.Struct({
    n: Schema.Finite,
    order: Schema.String,
    status: Schema.String,
    at: Schema.Finite,
    pad: Schema.String
  })
)

export const open: Open<PubSubAdapter> = async (port) => {
  const runtime = ManagedRuntime.make(Layer.provideMerge(PubSubLive, Redis.layer({ url: `redis://127.0.0.1:${port}` })))
  const pubSub = await runtime.runPromise(PubSub)
  return {
    subscribe: (onMessage) =>
      new Promise<void>((resolve, reject) => {
        const listening = Effect.scoped(Effect.gen(function*() {
          const statuses = yield* pubSub.subscribeScoped(Statuses)
          resolve()
          yield* Stream.runForEach(statuses, (status) => Effect.sync(() => onMessage(status)))
        }))
        runtime.runCallback(listening, { onExit: (exit) => exit._tag === "Failure" && reject(new Error("it ended")) })
      }),
    publish: (messages) =>
      runtime.runPromise(
        Effect.forEach(messages, (message) => pubSub.publish(Statuses, message), {
          concurrency: "unbounded",
          discard: true
        })
      ),
    close: () => runtime.dispose()
  }
}
