/** What is inferred of channels and subscriptions. */
import { Effect, type Layer, Schema, type Scope, type Stream } from "effect"
import { expectTypeOf, test } from "vitest"
import * as Channel from "../../src/Channel.ts"
import { PubSub, PubSubLive, type SlowSubscriber, type SubscribeOptions } from "../../src/PubSub.ts"
import type { RedisClient } from "../../src/RedisClient.ts"
import type { InvalidInput, RedisError } from "../../src/RedisError.ts"

const pubsub = Effect.runSync(Effect.scoped(Effect.provide(PubSub, PubSub.layerMemory)))
const someOptions: SubscribeOptions = {}

const Dates = Channel.make("dates", Schema.Struct({ at: Schema.Date }))
const Statuses = Channel.family((id: number) => `orders:${id}`, Schema.Literals(["packed", "sent"]))

interface Dated {
  readonly at: Date
}
type Status = "packed" | "sent"
type SubscriptionError = InvalidInput | RedisError

test("a channel's messages are what its schema decodes to", () => {
  expectTypeOf(Dates).toEqualTypeOf<Channel.Channel<Dated>>()
  expectTypeOf(Statuses).toEqualTypeOf<(id: number) => Channel.Channel<Status>>()
  expectTypeOf(pubsub.subscribe(Dates)).toEqualTypeOf<Stream.Stream<Dated, SubscriptionError>>()
  expectTypeOf(pubsub.subscribeScoped(Statuses(1))).toEqualTypeOf<
    Effect.Effect<Stream.Stream<Status, RedisError>, SubscriptionError, Scope.Scope>
  >()
  expectTypeOf(pubsub.events(Channel.pattern("orders:*", Dates.schema))).toEqualTypeOf<
    Stream.Stream<Channel.Event<Dated>, SubscriptionError>
  >()
  expectTypeOf(pubsub.subscribePattern("orders:*", Dates.schema, { shared: true })).toEqualTypeOf<
    Stream.Stream<Channel.Message<Dated>, SubscriptionError>
  >()
})

test("only what fits the channel can be published", () => {
  expectTypeOf(pubsub.publish(Statuses(1), "sent")).toEqualTypeOf<Effect.Effect<number, SubscriptionError>>()
  expectTypeOf(pubsub.publishAll(Dates, [{ at: new Date(0) }])).toEqualTypeOf<
    Effect.Effect<ReadonlyArray<number>, SubscriptionError>
  >()
  // @ts-expect-error: it is no status
  void pubsub.publish(Statuses(1), "lost")
  // @ts-expect-error: the date is encoded by the schema, not before
  void pubsub.publishAll(Dates, [{ at: "1970-01-01T00:00:00Z" }])
  // @ts-expect-error: the family's ids are numbers
  Statuses("1")
  // @ts-expect-error: nobody publishes on a pattern
  void pubsub.publish(Channel.pattern("orders:*", Dates.schema), { at: new Date(0) })
})

test("a full buffer is an error only where it may be one", () => {
  const failing = { buffer: { strategy: "fail" } } as const
  expectTypeOf(pubsub.subscribe(Dates, failing)).toEqualTypeOf<
    Stream.Stream<Dated, SubscriptionError | SlowSubscriber>
  >()
  expectTypeOf(pubsub.subscribe(Dates, { buffer: { size: 10, strategy: "fail" } })).toEqualTypeOf<
    Stream.Stream<Dated, SubscriptionError | SlowSubscriber>
  >()
  expectTypeOf(pubsub.subscribe(Dates, someOptions)).toEqualTypeOf<
    Stream.Stream<Dated, SubscriptionError | SlowSubscriber>
  >()
  expectTypeOf(pubsub.subscribe(Dates, { buffer: { size: 10 } })).toEqualTypeOf<
    Stream.Stream<Dated, SubscriptionError>
  >()
  expectTypeOf(pubsub.subscribe(Dates, { buffer: { strategy: "dropNewest" } })).toEqualTypeOf<
    Stream.Stream<Dated, SubscriptionError>
  >()
  // @ts-expect-error: a shared subscription never waits for one subscriber
  void pubsub.subscribe(Dates, { buffer: { strategy: "suspend" } })
})

test("a schema that needs services makes no channel", () => {
  const needy = null as unknown as Schema.Codec<string, string, RedisClient>
  // @ts-expect-error: nobody would provide them while decoding
  expectTypeOf(Channel.make("needy", needy)).not.toBeAny()
})

test("the live layer needs a connection, the memory layer needs nothing", () => {
  expectTypeOf(PubSubLive).toEqualTypeOf<Layer.Layer<PubSub, never, RedisClient>>()
  expectTypeOf(PubSub.layerMemory).toEqualTypeOf<Layer.Layer<PubSub>>()
})
