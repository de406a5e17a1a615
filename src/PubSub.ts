/** Typed messages to whoever listens now, in this process or another. */
import { Context, Effect, Layer, Metric, Result, Schema, type Scope, Stream } from "effect"
import * as Channel from "./Channel.ts"
import type { Codec, WireSchema } from "./internal/codec.ts"
import type { BufferStrategy } from "./internal/inbox.ts"
import { makeMemory } from "./internal/pubSubMemory.ts"
import { traced } from "./internal/span.ts"
import type { Subscribe } from "./internal/subscriber.ts"
import { makeSubscriptions, nameOf, spell, type Subscribable } from "./internal/subscription.ts"
import { RedisClient } from "./RedisClient.ts"
import { InvalidInput, type RedisError } from "./RedisError.ts"

export type { BufferStrategy } from "./internal/inbox.ts"

/** A subscriber whose buffer's strategy is `fail` took too long: more messages came than its buffer holds. */
export class SlowSubscriber extends Schema.TaggedError<SlowSubscriber>()("SlowSubscriber", {
  /** The channel, or the pattern. */
  channel: Schema.String,
  /** How many messages its buffer held. */
  size: Schema.Finite
}) {
  override get message(): string {
    return `A subscriber of "${this.channel}" fell more than ${this.size} messages behind`
  }
}

/** How a subscriber keeps up. */
export interface SubscribeOptions {
  /** What waits for a subscriber that is busy. A full buffer never holds up the publisher or other subscribers. */
  readonly buffer?: {
    /** How many messages it holds, from 1 to 1,000,000. Default: 1024. */
    readonly size?: number | undefined
    /** What happens when it is full. Default: `dropOldest`. */
    readonly strategy?: BufferStrategy | undefined
  } | undefined
}

/** The error that options ask for: `SlowSubscriber` when the strategy is, or may be, `fail`. */
export type BufferError<Options> = Options extends
  { readonly buffer?: { readonly strategy?: infer Strategy } | undefined } ?
  unknown extends Strategy ? never : "fail" extends Strategy ? SlowSubscriber : never
  : never

/** The errors of a subscription. */
export type SubscribeError<Options> = InvalidInput | RedisError | BufferError<Options>

/**
 * Publishes and subscribes. Messages of one publisher on one channel arrive in order, at most once: who does not listen
 * when a message is published never gets it.
 *
 * All subscribers in a process share one connection, and one server subscription for each channel and pattern. Streams
 * end when the layer's scope closes.
 *
 * @example
 * ```ts
 * import { Effect, Schema, Stream } from "effect"
 * import { Channel, PubSub, PubSubLive, RedisLive } from "effect-redis-kit"
 *
 * const OrderStatus = Channel.family((id: string) => `orders:${id}`, Schema.Literals(["packed", "sent"]))
 *
 * const program = Effect.gen(function*() {
 *   const pubsub = yield* PubSub
 *   const statuses = yield* pubsub.subscribeScoped(OrderStatus("4711"))
 *   yield* pubsub.publish(OrderStatus("4711"), "packed")
 *   yield* Stream.runForEach(Stream.take(statuses, 1), (status) => Effect.log(status))
 * })
 *
 * export const main = program.pipe(Effect.scoped, Effect.provide(PubSubLive), Effect.provide(RedisLive))
 * ```
 */
export class PubSub extends Context.Service<PubSub, {
  /**
   * Publishes, and tells how many received it: connections, not subscribers, so a process counts once for the channel and
   * once for each of its patterns that match; in a Cluster, only those at the same node. Is not repeated after a lost
   * reply: `Unknown` means that it may have been published.
   */
  readonly publish: <A>(
    channel: Channel.Channel<A>,
    message: NoInfer<A>
  ) => Effect.Effect<number, InvalidInput | RedisError>
  /**
   * Publishes up to 10,000 messages (16 MiB) in order and in one round trip, and tells for each how many received it. Not
   * atomic: others' messages may come in between. Nothing is sent unless all can be.
   */
  readonly publishAll: <A>(
    channel: Channel.Channel<A>,
    messages: Iterable<NoInfer<A>>
  ) => Effect.Effect<ReadonlyArray<number>, InvalidInput | RedisError>
  /** The messages from now on, subscribed as long as the stream runs. Leaves out what `events` has besides messages. */
  readonly subscribe: <A, const Options extends SubscribeOptions = {}>(
    channel: Channel.Channel<A>,
    options?: Options
  ) => Stream.Stream<A, SubscribeError<Options>>
  /**
   * `subscribe`, which returns once the server has acknowledged: the stream misses nothing published afterwards. It runs
   * once: two runs would share the messages.
   */
  readonly subscribeScoped: <A, const Options extends SubscribeOptions = {}>(
    channel: Channel.Channel<A>,
    options?: Options
  ) => Effect.Effect<Stream.Stream<A, RedisError | BufferError<Options>>, InvalidInput | RedisError, Scope.Scope>
  /** Messages and whatever keeps some from arriving: what cannot be decoded, lost connections, a full buffer. */
  readonly events: <A, const Options extends SubscribeOptions = {}>(
    channel: Channel.Channel<A> | Channel.ChannelPattern<A>,
    options?: Options
  ) => Stream.Stream<Channel.Event<A>, SubscribeError<Options>>
  /** `events`, which returns once the server has acknowledged. */
  readonly eventsScoped: <A, const Options extends SubscribeOptions = {}>(
    channel: Channel.Channel<A> | Channel.ChannelPattern<A>,
    options?: Options
  ) => Effect.Effect<
    Stream.Stream<Channel.Event<A>, RedisError | BufferError<Options>>,
    InvalidInput | RedisError,
    Scope.Scope
  >
  /** The messages of all channels that match a glob pattern, see `Channel.pattern`, each with its channel's name. */
  readonly subscribePattern: <A, const Options extends SubscribeOptions & { readonly shared?: boolean } = {}>(
    pattern: string,
    schema: WireSchema<A>,
    options?: Options
  ) => Stream.Stream<Channel.Message<A>, SubscribeError<Options>>
}>()("effect-redis-kit/PubSub") {
  /** Between processes, through Redis. */
  static readonly layer: Layer.Layer<PubSub, never, RedisClient> = Layer.effect(
    this,
    Effect.flatMap(RedisClient, (client) =>
      make({
        namespace: client.namespace,
        publish: (channel, message, sharded) =>
          sharded && client.topology === "cluster"
            ? client.use("spublish", (redis) => redis.spublish(channel, message).then(Number), { key: channel })
            : client.use("publish", (redis) => redis.publish(channel, message)),
        publishAll: (channel, messages, sharded) =>
          Effect.flatMap(
            client.pipeline((pipeline) =>
              messages.reduce(
                (all, message) =>
                  sharded && client.topology === "cluster"
                    ? all.spublish(channel, message)
                    : all.publish(channel, message),
                pipeline
              )
            ),
            (replies) => Effect.fromResult(Result.map(Result.all(replies), (counts) => counts.map(Number)))
          ),
        subscribe: client.subscribe
      }))
  )

  /** Within this process only. */
  static readonly layerMemory: Layer.Layer<PubSub> = Layer.effect(
    this,
    Effect.suspend(() => {
      const memory = makeMemory()
      return make({
        namespace: "app",
        publish: (channel, message) => Effect.sync(() => memory.publish(channel, message)),
        publishAll: (channel, messages) =>
          Effect.sync(() => messages.map((message) => memory.publish(channel, message))),
        subscribe: memory.subscribe
      })
    })
  )
}

/** `PubSub` on Redis. */
export const PubSubLive: Layer.Layer<PubSub, never, RedisClient> = PubSub.layer

/** What differs between Redis and memory: texts on channels that are spelled already. */
interface Engine {
  readonly namespace: string
  readonly publish: (channel: string, message: string, sharded: boolean) => Effect.Effect<number, RedisError>
  readonly publishAll: (
    channel: string,
    messages: ReadonlyArray<string>,
    sharded: boolean
  ) => Effect.Effect<ReadonlyArray<number>, RedisError>
  readonly subscribe: Subscribe
}

const maxBatch = 10_000
const maxBatchBytes = 16 * 1024 * 1024
const maxBufferSize = 1_000_000
const defaultBufferSize = 1024

const published = Metric.counter("redis_pubsub_published", {
  incremental: true,
  description: "Messages published"
})

const make = Effect.fnUntraced(function*(engine: Engine) {
  const { codecOf, listen } = yield* makeSubscriptions(engine)

  const publish: PubSub["Service"]["publish"] = (channel, message) =>
    Effect.suspend(() =>
      Effect.fromResult(Result.all([spell(engine.namespace, channel), codecOf(channel.schema).encode(message)]))
    ).pipe(
      Effect.flatMap(([spelled, text]) => engine.publish(spelled, text, channel.sharded)),
      Effect.tap(Metric.update(published, 1)),
      (self) => traced(self, "PubSub.publish", "producer", () => attributes(channel))
    )

  const publishAll: PubSub["Service"]["publishAll"] = (channel, messages) =>
    Effect.suspend(() =>
      Effect.fromResult(Result.all([spell(engine.namespace, channel), encodeAll(codecOf(channel.schema), messages)]))
    ).pipe(
      Effect.flatMap(([spelled, texts]) =>
        texts.length === 0 ? Effect.succeed([]) : engine.publishAll(spelled, texts, channel.sharded)
      ),
      Effect.tap((counts) => Metric.update(published, counts.length)),
      (self) => traced(self, "PubSub.publishAll", "producer", () => attributes(channel))
    )

  const open = <A, Options extends SubscribeOptions>(of: Subscribable<A>, options: Options | undefined) =>
    Effect.suspend(() => {
      const { size = defaultBufferSize, strategy = "dropOldest" } = options?.buffer ?? {}
      if (!Number.isInteger(size) || size < 1 || size > maxBufferSize) {
        return Effect.fail(
          new InvalidInput({ input: "buffer size", problem: `it is not a whole number from 1 to ${maxBufferSize}` })
        )
      }
      return listen(of, {
        size,
        strategy,
        // Only called when the strategy is `fail`, and then the type says so.
        overflow: () => new SlowSubscriber({ channel: nameOf(of), size }) as BufferError<Options>
      })
    }).pipe((self) => traced(self, "PubSub.subscribe", "client", () => attributes(of)))

  return PubSub.of({
    publish,
    publishAll,
    subscribe: (channel, options) => Stream.unwrap(Effect.map(open(channel, options), ({ values }) => values)),
    subscribeScoped: (channel, options) => Effect.map(open(channel, options), ({ values }) => values),
    events: (channel, options) => Stream.unwrap(Effect.map(open(channel, options), ({ events }) => events)),
    eventsScoped: (channel, options) => Effect.map(open(channel, options), ({ events }) => events),
    subscribePattern: (pattern, schema, options) =>
      Stream.unwrap(
        Effect.map(open(Channel.pattern(pattern, schema, options), options), ({ messages }) => messages)
      )
  })
})

const encodeAll = <A>(
  codec: Codec<A>,
  messages: Iterable<A>
): Result.Result<ReadonlyArray<string>, InvalidInput> => {
  const texts: Array<string> = []
  let bytes = 0
  for (const message of messages) {
    const text = codec.encode(message)
    if (Result.isFailure(text)) return Result.fail(text.failure)
    texts.push(text.success)
    bytes += Buffer.byteLength(text.success)
    if (texts.length > maxBatch || bytes > maxBatchBytes) {
      const problem = `there are more than ${maxBatch} of them, or they take more than ${maxBatchBytes} bytes`
      return Result.fail(new InvalidInput({ input: "messages", problem }))
    }
  }
  return Result.succeed(texts)
}

const attributes = (of: Subscribable<any>) => ({
  "messaging.system": "redis",
  "messaging.destination.name": nameOf(of)
})
