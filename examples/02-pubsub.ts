// Typed live messages: one channel per order, many subscribers, one server subscription.
import { Console, Effect, Fiber, Layer, Logger, Schema, Stream } from "effect"
import { Channel, PubSub, ServicesAuto } from "effect-redis-kit"

const OrderStatus = Channel.family(
  (id: string) => `orders:${id}`,
  Schema.Struct({ status: Schema.Literals(["packed", "sent", "delivered"]) })
)

const program = Effect.gen(function*() {
  const pubsub = yield* PubSub

  // Returns once the server has acknowledged: nothing that is published from here on is missed.
  const first = yield* pubsub.subscribeScoped(OrderStatus("4711"))
  const second = yield* pubsub.subscribeScoped(OrderStatus("4711"))
  const watching = yield* Effect.forkChild(Effect.all([
    Stream.runCollect(Stream.take(first, 3)),
    Stream.runCollect(Stream.take(second, 3))
  ], { concurrency: 2 }))

  // Two subscribers, one connection.
  yield* Console.log("received by", yield* pubsub.publish(OrderStatus("4711"), { status: "packed" }), "connection")
  yield* pubsub.publishAll(OrderStatus("4711"), [{ status: "sent" }, { status: "delivered" }])
  yield* Console.log("nobody listens:", yield* pubsub.publish(OrderStatus("4712"), { status: "packed" }))

  for (const messages of yield* Fiber.join(watching)) {
    yield* Console.log(messages.map((message) => message.status).join(" -> "))
  }
})

// The log goes to stderr, so that stdout is the same on every engine.
await Effect.runPromise(program.pipe(
  Effect.scoped,
  Effect.provide(ServicesAuto.pipe(Layer.provideMerge(Layer.succeed(Logger.LogToStderr, true))))
))
