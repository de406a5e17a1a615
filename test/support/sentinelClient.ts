/** Clients that reach their server through Sentinels. */
import { Effect, Layer } from "effect"
import { RedisClient } from "../../src/RedisClient.ts"
import type { RedisSettings } from "../../src/RedisSettings.ts"
import { eventually } from "./queuesOnRedis.ts"
import type { RedisSentinel } from "./redisSentinel.ts"
import type { RedisServer } from "./redisServer.ts"

export type Client = RedisClient["Service"]

/** A client until the scope closes. */
export const build = (settings: RedisSettings) =>
  Effect.flatMap(Layer.build(RedisClient.layer(settings)), (context) => Effect.provide(RedisClient, context))

export const through = ({ addresses, name }: RedisSentinel) => ({ sentinel: { name, nodes: addresses } })

export const incr = ({ use }: Pick<Client, "use">, key: string, repeatable: boolean) =>
  use("incr", (redis) => redis.incr(key), { repeatable })

/** Returns when commands go to another server than the one that was the master before. */
export const followed = (client: Client, before: RedisServer) =>
  eventually(
    "the connection has followed",
    Effect.sync(() => ![undefined, before.port].includes(client.raw.stream.remotePort))
  )
