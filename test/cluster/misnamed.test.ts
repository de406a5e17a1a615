/** Settings that name another kind of server than there is: the errors, and Health, say what to change. */
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import { Health } from "../../src/Health.ts"
import { RedisClient } from "../../src/RedisClient.ts"
import type { RedisSettings } from "../../src/RedisSettings.ts"
import { sharedClusterNodes, sharedRedisUrl, sharedSentinels } from "../support/sharedRedis.ts"

const refusal = (settings: RedisSettings) =>
  Effect.map(Effect.flip(Effect.scoped(Layer.build(RedisClient.layer(settings)))), (error) => error.detail)

const reasonsOn = (settings: RedisSettings) =>
  Effect.scoped(Effect.gen(function*() {
    const context = yield* Layer.build(Layer.provide(Health.layer(), RedisClient.layer(settings)))
    const { reasons, status } = yield* Context.get(context, Health).check
    return [status, ...reasons].join("; ")
  }))

describe("Redis that is not what the settings say", () => {
  it.live("is one of a Cluster's, named as a server", () =>
    Effect.gen(function*() {
      const [node] = yield* sharedClusterNodes
      assert.match(yield* reasonsOn(node!), /^degraded; .*it is one of a Cluster's/)
      const client = yield* Layer.build(RedisClient.layer(node))
      const calls = yield* Effect.forEach(
        Array.from({ length: 30 }, (_, i) => `key ${i}`),
        (key) => Effect.flip(Context.get(client, RedisClient).use("get", (redis) => redis.get(key))).pipe(Effect.option)
      )
      const details = calls.flatMap((call) => call._tag === "Some" ? [call.value.detail] : [])
      assert.isNotEmpty(details)
      for (const detail of details) assert.match(detail, /^MOVED .*\?cluster=true/)
    }).pipe(Effect.scoped))

  it.live("is a server, or a Sentinel, named as a Cluster", () =>
    Effect.gen(function*() {
      const { hostname, port } = new URL(sharedRedisUrl())
      assert.match(
        yield* refusal({ cluster: { nodes: [{ host: hostname, port: Number(port) }] } }),
        /without \?cluster=true/
      )
      const { nodes } = yield* sharedSentinels
      assert.match(yield* refusal({ cluster: { nodes } }), /is it a Sentinel\?/)
    }))

  it.live("is a server, named as a Sentinel; or a Sentinel, named as a server", () =>
    Effect.gen(function*() {
      const { hostname, port } = new URL(sharedRedisUrl())
      const nodes = [{ host: hostname, port: Number(port) }]
      assert.match(yield* refusal({ sentinel: { name: "main", nodes } }), /is it a Sentinel\?/)
      const sentinels = yield* sharedSentinels
      assert.match(yield* reasonsOn(sentinels.nodes[0]!), /^degraded; .*it is a Sentinel/)
    }))
})
