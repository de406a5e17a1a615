/** The one connection for subscriptions: opened with the first subscriber, closed after the last. */
import { Effect, Exit, Scope } from "effect"
import type { Redis as Client } from "ioredis"
import type { RedisError } from "../RedisError.ts"
import { allOrNothing } from "./allOrNothing.ts"
import type { Connection, ConnectionState } from "./connection.ts"
import { closedError, toRedisError } from "./failure.ts"
import type { Probe } from "./probes.ts"

/** What a subscriber is called with. Neither function may throw or wait. */
export interface Listener {
  readonly onMessage: (message: string, channel: string) => void
  /** The connection broke and the subscription is live again; what was published in between is lost. */
  readonly onGap?: ((epoch: number) => void) | undefined
  /**
   * The connection broke and the server does not take the subscription back: no more will come. A listener without it
   * is subscribed again by the next connection.
   */
  readonly onLost?: ((error: RedisError) => void) | undefined
}

/** Whether a subscription names one channel, a glob pattern of channels, or a sharded channel of a Cluster. */
export type SubscriptionKind = "channel" | "pattern" | "shard"

/** Subscribes `listener` until the scope closes. Returns when the server has acknowledged. */
export type Subscribe = (
  kind: SubscriptionKind,
  name: string,
  listener: Listener
) => Effect.Effect<void, RedisError, Scope.Scope>

export interface Subscriber {
  readonly subscribe: Subscribe
  /** Asks over the connection, when there is one. */
  readonly probe: Probe
}

interface Topic {
  readonly kind: SubscriptionKind
  readonly name: string
  readonly listeners: Set<Listener>
  /** A gap that the listeners are not told of yet: the connection's epoch after it. */
  gap: number | undefined
}

/** A connection in use, with a scope of its own so that it can close before the program does. */
interface Live {
  readonly scope: Scope.Closeable
  readonly connection: Connection
  readonly watch: NodeJS.Timeout
  epoch: number
  ready: boolean
}

// How often an idle subscription asks whether anyone is there: nothing else would tell that the server is gone.
const watchMillis = 5000
// The server may be gone without a word when the last listener of a channel leaves.
const unsubscribeMillis = 1000

const commands: Record<SubscriptionKind, {
  readonly on: (client: Client, name: string) => Promise<unknown>
  readonly off: (client: Client, name: string) => Promise<unknown>
}> = {
  channel: { on: (client, name) => client.subscribe(name), off: (client, name) => client.unsubscribe(name) },
  pattern: { on: (client, name) => client.psubscribe(name), off: (client, name) => client.punsubscribe(name) },
  shard: { on: (client, name) => client.ssubscribe(name), off: (client, name) => client.sunsubscribe(name) }
}

/** Makes `subscribe` over connections that `open` opens, in one go. */
export const makeSubscriber = (
  open: (onState: (state: ConnectionState) => void) => Effect.Effect<Connection, never, Scope.Scope>
): Effect.Effect<Subscriber, never, Scope.Scope> =>
  Effect.gen(function*() {
    const context = yield* Effect.context()
    const run = Effect.runForkWith(context)
    // By kind, then by name: looked up for each message.
    const topics: Record<SubscriptionKind, Map<string, Topic>> = {
      channel: new Map(),
      pattern: new Map(),
      shard: new Map()
    }
    let live: Live | undefined
    let closed = false

    // Others may have come or gone since it was asked for: the last word on the wire has to be the right one.
    const isWanted = ({ kind, name }: Topic) => topics[kind].has(name)

    const subscribe = (topic: Topic, { connection }: Live) =>
      connection.calls.run(
        "subscribe",
        async (client) => {
          if (!isWanted(topic)) return
          await commands[topic.kind].on(client, topic.name)
        },
        { repeatable: true }
      )

    const unsubscribe = (topic: Topic, { connection }: Live) =>
      connection.calls.run(
        "unsubscribe",
        async (client) => {
          if (isWanted(topic)) return
          await commands[topic.kind].off(client, topic.name)
        },
        { timeoutMillis: unsubscribeMillis }
      )

    // Once it is over: before the first message after it.
    const tellGap = (topic: Topic): void => {
      const { gap } = topic
      if (gap === undefined) return
      topic.gap = undefined
      for (const listener of topic.listeners) listener.onGap?.(gap)
    }

    /** Those who have been told that it is lost are gone, and others may have begun anew. */
    const forget = (topic: Topic): void => {
      const { kind, listeners, name } = topic
      if (listeners.size === 0 && topics[kind].get(name) === topic) topics[kind].delete(name)
    }

    // Each new connection starts with no subscriptions; whoever listened before learns what it missed once it is back.
    const renew = (topic: Topic, current: Live, epoch: number) =>
      subscribe(topic, current).pipe(
        Effect.tap(() =>
          Effect.sync(() => {
            if (live === current && current.epoch === epoch) tellGap(topic)
          })
        ),
        // When the connection breaks again, the next one tries.
        Effect.catch((error) =>
          Effect.sync(() => {
            if (error.outcome !== "Rejected" || live !== current) return
            for (const listener of [...topic.listeners]) {
              if (listener.onLost === undefined) continue
              topic.listeners.delete(listener)
              listener.onLost(error)
            }
            forget(topic)
          })
        )
      )

    const start = (): Effect.Effect<Live> =>
      Effect.gen(function*() {
        const scope = yield* Scope.make()
        let current: Live | undefined
        const connection = yield* Scope.provide(
          open((state) => {
            if (current === undefined || current !== live) return
            current.ready = state._tag === "Ready"
            if (!current.ready) return
            current.epoch = state.epoch
            if (state.epoch === 1) return
            for (const topic of Object.values(topics).flatMap((some) => Array.from(some.values()))) {
              topic.gap = state.epoch
              run(renew(topic, current, state.epoch))
            }
          }),
          scope
        )
        const deliver = (topic: Topic | undefined, channel: string, message: string) => {
          // A connection that is being closed may still deliver what its successor delivers too.
          if (topic === undefined || current !== live) return
          tellGap(topic)
          for (const listener of topic.listeners) listener.onMessage(message, channel)
        }
        connection.client.on("message", (channel, message) => deliver(topics.channel.get(channel), channel, message))
        connection.client.on("smessage", (channel, message) => deliver(topics.shard.get(channel), channel, message))
        connection.client.on(
          "pmessage",
          (pattern, channel, message) => deliver(topics.pattern.get(pattern), channel, message)
        )
        const watch = setInterval(() => {
          if (current !== undefined) run(Effect.ignore(ask(current)))
        }, watchMillis)
        current = { scope, connection, watch, epoch: 0, ready: false }
        return current
      })

    // In the same step as what decides on it, so that nobody joins a connection that is about to close.
    const stop = (): Effect.Effect<void> => {
      const closing = live
      if (closing === undefined) return Effect.void
      live = undefined
      clearInterval(closing.watch)
      return Scope.close(closing.scope, Exit.void)
    }
    yield* Effect.addFinalizer(() => {
      closed = true
      return stop()
    })

    const join = (kind: SubscriptionKind, name: string, listener: Listener) =>
      Effect.suspend(() => {
        if (closed) return Effect.fail(isClosed())
        // In one go, so that two who come first together open one connection.
        live ??= Effect.runSyncWith(context)(start())
        const topic = topics[kind].get(name) ?? { kind, name, listeners: new Set(), gap: undefined }
        topics[kind].set(name, topic)
        topic.listeners.add(listener)
        return Effect.succeed(topic)
      })

    const leave = (topic: Topic, listener: Listener) =>
      Effect.suspend(() => {
        topic.listeners.delete(listener)
        if (topic.listeners.size > 0) return Effect.void
        forget(topic)
        if (topics.channel.size + topics.pattern.size + topics.shard.size === 0) return stop()
        // Without a connection there is nothing to unsubscribe from, and the next one knows no subscriptions.
        return live?.ready === true ? Effect.ignore(unsubscribe(topic, live)) : Effect.void
      })

    const ask = ({ connection }: Live) => connection.calls.run("ping", (client) => client.ping(), { repeatable: true })

    const probe: Probe = {
      name: "subscriptions",
      check: Effect.suspend(() => {
        const asked = live
        const answered = asked === undefined ? Effect.void : ask(asked).pipe(
          // A refusal is an answer; and the connection may be closed, after its last subscription, while we ask.
          Effect.catchIf((error) => error.reason === "no-permission" || live !== asked, () => Effect.void)
        )
        return Effect.map(answered, () => ({
          status: "healthy",
          details: {
            connected: live !== undefined,
            reconnects: Math.max((live?.epoch ?? 0) - 1, 0),
            channels: topics.channel.size,
            patterns: topics.pattern.size
          }
        }))
      })
    }

    const subscribeTo: Subscribe = (kind, name, listener) =>
      allOrNothing(
        Effect.flatMap(
          Effect.acquireRelease(join(kind, name, listener), (topic) => leave(topic, listener)),
          // Also when others have subscribed: the acknowledgement they got, or wait for, may be of a connection now gone.
          (topic) => live === undefined ? Effect.fail(isClosed()) : subscribe(topic, live)
        )
      )

    return { subscribe: subscribeTo, probe }
  })

const isClosed = () => toRedisError("subscribe", closedError(), false)
