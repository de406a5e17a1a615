/** Connections, subscriptions and whatever else a client opens, to be opened and closed again and again. */
import { ConfigProvider, Context, Effect, Layer, Schema, Stream } from "effect"
import * as Channel from "../../src/Channel.ts"
import { PubSub, PubSubLive } from "../../src/PubSub.ts"
import { Redis } from "../../src/Redis.ts"
import { RedisClient } from "../../src/RedisClient.ts"
import { ServicesLive } from "../../src/Services.ts"
import { freePort } from "../support/freePort.ts"
import type { Thing } from "./cycles.ts"

/** The connection that cycles share. */
export const openClient = (url: string) =>
  Effect.map(
    Layer.build(RedisClient.layer({ url, namespace: "leaks" })),
    (context) => Context.get(context, RedisClient)
  )

/** Builds a layer anew. */
export const buildAnew = <A, E>(layer: Layer.Layer<A, E>) => Layer.build(Layer.fresh(layer))

const News = Channel.make("news", Schema.String)

export const connections = (url: string): ReadonlyArray<Thing> => [
  {
    name: "RedisClient.layer",
    open: Effect.succeed({
      cycle: () =>
        Effect.flatMap(
          buildAnew(RedisClient.layer({ url })),
          (context) => Context.get(context, RedisClient).use("ping", (redis) => redis.ping())
        )
    })
  },
  {
    name: "RedisClient.layer, where no server is",
    open: Effect.map(Effect.promise(freePort), (port) => ({
      cycle: (number) =>
        number % 2 === 0
          ? Effect.flip(buildAnew(RedisClient.layer({ port })))
          : buildAnew(RedisClient.layer({ port, connect: "background" }))
    }))
  },
  {
    name: "Redis.layer",
    open: Effect.succeed({
      cycle: () => Effect.flatMap(buildAnew(Redis.layer({ url })), (context) => Context.get(context, Redis).get("none"))
    })
  },
  {
    name: "ServicesLive",
    open: Effect.sync(() => {
      const config = ConfigProvider.layer(ConfigProvider.fromEnvRecord({ REDIS_URL: url, SERVICE_NAME: "leaks" }))
      return { cycle: () => buildAnew(Layer.provide(ServicesLive, config)) }
    })
  },
  {
    name: "reserve, with a command that blocks",
    open: Effect.map(openClient(url), (client) => ({
      client,
      cycle: () =>
        Effect.gen(function*() {
          const own = yield* client.reserve
          yield* Effect.forkScoped(own.use("blpop", (redis) => redis.blpop("none", 0)), { startImmediately: true })
          yield* Effect.yieldNow
        })
    }))
  },
  {
    name: "duplicate",
    open: Effect.map(openClient(url), (client) => ({
      client,
      cycle: () => Effect.flatMap(client.duplicate(), (own) => Effect.promise(() => own.ping()))
    }))
  },
  {
    name: "subscribe",
    open: Effect.map(openClient(url), (client) => ({
      client,
      cycle: (number) =>
        Effect.andThen(
          client.subscribe("channel", `channel ${number % 4}`, { onMessage: () => {} }),
          client.subscribe("pattern", `pattern ${number % 3} *`, { onMessage: () => {} })
        )
    }))
  },
  {
    name: "states",
    open: Effect.map(openClient(url), (client) => ({
      client,
      cycle: () => Effect.andThen(Effect.forkScoped(Stream.runDrain(client.states)), Stream.runHead(client.states))
    }))
  },
  {
    name: "PubSub.layer",
    open: Effect.map(openClient(url), (client) => ({
      client,
      cycle: () =>
        Effect.flatMap(
          buildAnew(Layer.provide(PubSubLive, Layer.succeed(RedisClient, client))),
          (context) => Context.get(context, PubSub).subscribeScoped(News)
        )
    }))
  },
  {
    name: "subscribe, subscribeScoped and subscribePattern of PubSub",
    open: Effect.gen(function*() {
      const client = yield* openClient(url)
      const context = yield* Layer.build(Layer.provide(PubSubLive, Layer.succeed(RedisClient, client)))
      const pubsub = Context.get(context, PubSub)
      const cycle = (number: number) =>
        Effect.gen(function*() {
          const channel = Channel.make(`news ${number % 4}`, Schema.String)
          yield* Effect.forkScoped(Stream.runDrain(pubsub.subscribe(channel)), { startImmediately: true })
          yield* Effect.forkScoped(Stream.runDrain(pubsub.subscribePattern("news *", Schema.String)))
          const messages = yield* pubsub.subscribeScoped(channel)
          yield* pubsub.publish(channel, "a text")
          yield* Stream.runHead(messages)
        })
      return { client, cycle }
    })
  }
]
