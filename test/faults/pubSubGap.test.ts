/** Where in a stream a gap stands. */
import { assert, it } from "@effect/vitest"
import { Context, Effect, Layer, Schema, Stream } from "effect"
import * as Channel from "../../src/Channel.ts"
import { PubSub } from "../../src/PubSub.ts"
import { RedisClient } from "../../src/RedisClient.ts"
import { RedisServer } from "../support/redisServer.ts"

const Numbers = Channel.make("numbers", Schema.Finite)
const breaks = 12

it.live("a gap comes before the first message behind it", () =>
  Effect.scoped(Effect.gen(function*() {
    const server = yield* RedisServer.start()
    const pubsub = Context.get(
      yield* Layer.build(Layer.provide(PubSub.layer, RedisClient.layer({ url: server.url }))),
      PubSub
    )
    const events = yield* pubsub.eventsScoped(Numbers, { buffer: { size: 1_000_000 } })
    let n = 0
    yield* Effect.forkScoped(
      Effect.forever(Effect.suspend(() => pubsub.publishAll(Numbers, Array.from({ length: 20 }, () => ++n))))
    )
    let expected: number | undefined
    let gaps = 0
    yield* Effect.forkScoped(Effect.forever(Effect.andThen(
      server.cli("CLIENT", "KILL", "TYPE", "pubsub"),
      Effect.sleep("100 millis")
    )))
    yield* Stream.runForEach(
      Stream.takeUntil(events, () => gaps === breaks),
      (event) =>
        Effect.sync(() => {
          if (event._tag === "Gap") {
            gaps++
            expected = undefined
          } else if (event._tag === "Message") {
            if (expected !== undefined) assert.strictEqual(event.message, expected)
            expected = event.message + 1
          }
        })
    )
  })))
