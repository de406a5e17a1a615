/** What a client opens on a Cluster, or through Sentinels, to be opened and closed again and again. */
import { Context, Effect, Layer, Schema } from "effect"
import * as Channel from "../../src/Channel.ts"
import { DistributedLock } from "../../src/DistributedLock.ts"
import { PubSub, PubSubLive } from "../../src/PubSub.ts"
import { RedisClient } from "../../src/RedisClient.ts"
import type { RedisSettings } from "../../src/RedisSettings.ts"
import { buildAnew } from "./connections.ts"
import type { Thing } from "./cycles.ts"

const Sharded = Channel.family((id: string) => `sharded ${id}`, Schema.String, { sharded: true })

/** The client that cycles share. */
const openClient = (settings: RedisSettings) =>
  Effect.map(Layer.build(RedisClient.layer(settings)), (context) => Context.get(context, RedisClient))

const layers = (settings: RedisSettings): ReadonlyArray<Thing> => [
  {
    name: "RedisClient.layer",
    open: Effect.succeed({
      cycle: () =>
        Effect.flatMap(
          buildAnew(RedisClient.layer(settings)),
          (context) => Context.get(context, RedisClient).use("ping", (redis) => redis.ping())
        )
    })
  },
  {
    name: "reserveFor",
    open: Effect.map(openClient(settings), (client) => ({
      client,
      cycle: (number) =>
        Effect.flatMap(client.reserveFor(`key ${number}`), ({ use }) => use("ping", (redis) => redis.ping()))
    }))
  }
]

/** On a Cluster. */
export const onCluster = (settings: RedisSettings): ReadonlyArray<Thing> => [
  ...layers(settings),
  {
    name: "subscribeScoped, of sharded channels",
    open: Effect.map(
      Layer.build(Layer.provideMerge(PubSubLive, RedisClient.layer(settings))),
      (context) => ({
        client: Context.get(context, RedisClient),
        cycle: (number) => Context.get(context, PubSub).subscribeScoped(Sharded(String(number)))
      })
    )
  }
]

/** Through Sentinels, to a master with a replica. */
export const throughSentinels = (settings: RedisSettings): ReadonlyArray<Thing> => [
  ...layers(settings),
  {
    name: "DistributedLock.layer, which waits for replicas",
    open: Effect.gen(function*() {
      const client = yield* openClient(settings)
      const layer = DistributedLock.layer({ replicas: { count: 1 } }).pipe(
        Layer.provide(Layer.succeed(RedisClient, client))
      )
      const cycle = (number: number) =>
        Effect.flatMap(buildAnew(layer), (context) => Context.get(context, DistributedLock).acquire(`lock ${number}`))
      // The connection for such writes stays once it is open.
      yield* Effect.scoped(cycle(0))
      return { client, cycle }
    })
  }
]
