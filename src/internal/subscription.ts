/** Turns what the server pushes into streams of a channel's messages. */
import { Array, type Cause, Effect, Metric, Redacted, Result, type Scope, Stream } from "effect"
import type { Channel, ChannelPattern, Dropped, Event, Gap, Message, Undecodable } from "../Channel.ts"
import type { InvalidInput, RedisError } from "../RedisError.ts"
import { type Codec, makeCodec, type WireSchema } from "./codec.ts"
import { parseGlob } from "./glob.ts"
import { type BufferStrategy, type Inbox, makeInbox } from "./inbox.ts"
import { checkName, escapeName, sharedNamespace, unescapeName } from "./keys.ts"
import type { Subscribe, SubscriptionKind } from "./subscriber.ts"

/** What can be subscribed to. */
export type Subscribable<A> = Channel<A> | ChannelPattern<A>

/** The name that a caller knows it by. */
export const nameOf = (of: Subscribable<any>) => of._tag === "Channel" ? of.name : of.pattern

// No hash tag: a classic PUBLISH reaches all nodes of a Cluster, whatever the slot, and sharded channels are to spread.
const prefixOf = (namespace: string, of: Subscribable<any>) =>
  `${of.shared ? sharedNamespace : namespace}:${of._tag === "Channel" && of.sharded ? "sharded" : "channel"}:`

/** The channel as the server has it. */
export const spell = (namespace: string, channel: Channel<any>): Result.Result<string, InvalidInput> =>
  Result.map(checkName("channel name", channel.name), (name) => prefixOf(namespace, channel) + escapeName(name))

/** Where a subscription is found on the server, and what of it is meant. */
interface Source {
  readonly kind: SubscriptionKind
  readonly spelled: string
  /** The name of a channel that is meant; `undefined` for others that the server sends as well. */
  readonly nameOf: (spelled: string) => string | undefined
}

const sourceOf = (namespace: string, of: Subscribable<any>): Result.Result<Source, InvalidInput> => {
  if (of._tag === "Channel") {
    const { name, sharded } = of
    const kind = sharded ? "shard" : "channel"
    return Result.map(spell(namespace, of), (spelled) => ({ kind, spelled, nameOf: () => name }))
  }
  const prefix = prefixOf(namespace, of)
  return checkName("channel pattern", of.pattern).pipe(
    Result.flatMap(parseGlob),
    Result.map(({ matches, spelled }) => {
      let last: string | undefined
      let name: string | undefined
      return {
        kind: "pattern",
        spelled: prefix + spelled,
        nameOf: (channel) => {
          if (channel === last) return name
          last = channel
          name = unspell(channel.slice(prefix.length))
          if (name !== undefined && !matches(name)) name = undefined
          return name
        }
      }
    })
  )
}

// Others may publish on channels that look like ours, with names that we would never spell so.
const unspell = (escaped: string): string | undefined => {
  try {
    return unescapeName(escaped)
  } catch {
    return undefined
  }
}

/** A message as it came in, shared by all subscribers with the same schema, so that one of them decodes it for all. */
interface Delivery {
  readonly _tag: "Delivery"
  readonly text: string
  readonly channel: string
  event: Message<any> | Undecodable | undefined
}

/** How texts become messages of one schema. */
interface Reader {
  readonly codec: Codec<any>
  latest: Delivery | undefined
}

type Item = Delivery | Gap | Dropped

const counter = (name: string, description: string) =>
  Metric.counter(`redis_pubsub_${name}`, { incremental: true, description })

const metrics = {
  received: counter("received", "Messages that subscribers took from their buffers"),
  undecodable: counter("undecodable", "Messages that a channel's schema does not know"),
  dropped: counter("dropped", "Messages that a subscriber's full buffer had no room for"),
  gaps: counter("gaps", "Subscriptions that a lost connection interrupted")
}

export interface ListenOptions<E> {
  readonly size: number
  readonly strategy: BufferStrategy
  readonly overflow: () => E
}

/** A subscription that is live until its scope closes. It is taken from in one way only. */
export interface Subscription<A, E> {
  /** Messages without what `events` has besides. */
  readonly messages: Stream.Stream<Message<A>, E>
  readonly values: Stream.Stream<A, E>
  readonly events: Stream.Stream<Event<A>, E>
}

/** The subscriptions of one service. They end with its scope. */
export interface Subscriptions {
  readonly codecOf: <A>(schema: WireSchema<A>) => Codec<A>
  /** Returns when the server has acknowledged. */
  readonly listen: <A, E>(
    of: Subscribable<A>,
    options: ListenOptions<E>
  ) => Effect.Effect<Subscription<A, E | RedisError>, InvalidInput | RedisError, Scope.Scope>
}

/** Makes subscriptions through an engine. */
export const makeSubscriptions = (engine: {
  readonly namespace: string
  readonly subscribe: Subscribe
}): Effect.Effect<Subscriptions, never, Scope.Scope> =>
  Effect.gen(function*() {
    const context = yield* Effect.context()
    const count = (metric: Metric.Counter<number>, by: number) => metric.updateUnsafe(by, context)

    const inboxes = new Set<Inbox<any, any>>()
    yield* Effect.addFinalizer(() => Effect.sync(() => inboxes.forEach((inbox) => inbox.end())))

    const readers = new WeakMap<WireSchema<any>, Reader>()
    const readerOf = (schema: WireSchema<any>): Reader => {
      let reader = readers.get(schema)
      if (reader === undefined) {
        reader = { codec: makeCodec("message", schema), latest: undefined }
        readers.set(schema, reader)
      }
      return reader
    }

    const open = <E>(name: string, options: ListenOptions<E>, reader: Reader) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          const inbox = makeInbox<Item, E | RedisError>({
            ...options,
            isNotice: (item) => item._tag === "Gap",
            dropped: (count) => ({ _tag: "Dropped", channel: name, count })
          }, () => count(metrics.dropped, 1))
          inboxes.add(inbox)
          return inbox
        }),
        (inbox) =>
          Effect.sync(() => {
            inbox.end()
            inboxes.delete(inbox)
            reader.latest = undefined
          })
      )

    const decode = (delivery: Delivery, { codec }: Reader): Message<any> | Undecodable => {
      const { channel, text } = delivery
      const decoded = codec.decode(text)
      if (Result.isSuccess(decoded)) return { _tag: "Message", channel, message: decoded.success }
      count(metrics.undecodable, 1)
      return { _tag: "Undecodable", channel, problem: decoded.failure.message, payload: Redacted.make(text) }
    }

    const listen = Effect.fnUntraced(function*<A, E>(of: Subscribable<A>, options: ListenOptions<E>) {
      const source = yield* Effect.fromResult(sourceOf(engine.namespace, of))
      const reader = readerOf(of.schema)
      const inbox = yield* open(nameOf(of), options, reader)
      let mine: Delivery | undefined
      yield* engine.subscribe(source.kind, source.spelled, {
        onMessage: (text, spelled) => {
          const channel = source.nameOf(spelled)
          if (channel === undefined) return
          const { latest } = reader
          // Who is first to get a message has had the latest one already; the others find the new one here.
          mine = latest !== undefined && latest !== mine && latest.text === text && latest.channel === channel
            ? latest
            : { _tag: "Delivery", text, channel, event: undefined }
          reader.latest = mine
          inbox.offer(mine)
        },
        onGap: (epoch) => {
          count(metrics.gaps, 1)
          inbox.offer({ _tag: "Gap", channel: nameOf(of), epoch })
        },
        onLost: inbox.end
      })

      const stream = <B>(each: (event: Event<A>, into: Array<B>) => void): Stream.Stream<B, E | RedisError> => {
        const take: Effect.Effect<Array.NonEmptyReadonlyArray<B>, E | RedisError | Cause.Done> = Effect.flatMap(
          inbox.take,
          (items) => {
            const into: Array<B> = []
            let received = 0
            for (const item of items) {
              if (item._tag !== "Delivery") each(item, into)
              else {
                received++
                each(item.event ??= decode(item, reader), into)
              }
            }
            count(metrics.received, received)
            return Array.isReadonlyArrayNonEmpty(into) ? Effect.succeed(into) : take
          }
        )
        return Stream.fromPull(Effect.succeed(take))
      }

      return {
        values: stream<A>((event, into) => {
          if (event._tag === "Message") into.push(event.message)
        }),
        messages: stream<Message<A>>((event, into) => {
          if (event._tag === "Message") into.push(event)
        }),
        events: stream<Event<A>>((event, into) => into.push(event))
      }
    })

    return { codecOf: (schema) => readerOf(schema).codec, listen }
  })
