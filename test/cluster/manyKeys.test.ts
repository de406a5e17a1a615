/** What of a command on keys of many slots is said when some of them are refused, or their server is away. */
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer, Option, Redacted } from "effect"
import { Redis } from "../../src/Redis.ts"
import { RedisClient } from "../../src/RedisClient.ts"
import type { RedisSettings } from "../../src/RedisSettings.ts"
import type { RedisCluster } from "../support/redisCluster.ts"
import { keyAtEach, settingsOf, suiteCluster } from "../support/suiteCluster.ts"

const cluster = suiteCluster({
  masters: 3,
  replicas: 0,
  persistence: "aof-always",
  acl: ["app on >app-secret ~*:may:* &* +@all"],
  args: ["--cluster-require-full-coverage", "no"]
})

const redisOn = (all: RedisCluster, more: RedisSettings = {}) =>
  Effect.map(Layer.build(Redis.layer(settingsOf(all, more))), (context) => {
    const { key } = Context.get(context, RedisClient)
    return { redis: Context.get(context, Redis), spell: key }
  })

/** Keys of which each master has one, as the service is given them. */
const keysFor = (spell: (key: string) => string, prefix: string) =>
  Effect.map(keyAtEach(cluster(), spell(prefix)), (keys) => keys.map((key) => prefix + key.slice(spell(prefix).length)))

const stored = (keys: ReadonlyArray<string>) =>
  Effect.forEach(keys, (key) => Effect.flatMap(cluster().masterOf(key), (master) => master.cli("EXISTS", key)))

describe("Many keys, of which some are refused", () => {
  const asApp = Effect.suspend(() => redisOn(cluster(), { username: "app", password: Redacted.make("app-secret") }))

  it.live("leave a write in doubt that was done for others, and a read without an answer", () =>
    Effect.gen(function*() {
      const { redis, spell } = yield* asApp
      const [first = "", second = ""] = yield* keysFor(spell, "may:")
      const [, , third = ""] = yield* keysFor(spell, "not:")
      yield* redis.set(first, "1")
      yield* redis.set(second, "2")
      const owner = yield* cluster().masterOf(spell(third))
      yield* owner.cli("SET", spell(third), "3")
      assert.deepInclude(yield* Effect.flip(redis.mget([first, third, second])), {
        command: "mget",
        reason: "no-permission"
      })
      assert.deepInclude(yield* Effect.flip(redis.del([first, third, second])), {
        command: "unlink",
        reason: "no-permission",
        outcome: "Unknown"
      })
      assert.deepStrictEqual(yield* stored([first, second, third].map((key) => spell(key))), [0, 0, 1])
    }))

  it.live("are rejected when all of them are", () =>
    Effect.gen(function*() {
      const { redis, spell } = yield* asApp
      const keys = yield* keysFor(spell, "not:")
      assert.deepInclude(yield* Effect.flip(redis.del(keys)), { reason: "no-permission", outcome: "Rejected" })
    }))
})

describe("Many keys, of which one server is away", () => {
  it.live("leave a write in doubt that was done at others, until it is back", () =>
    Effect.gen(function*() {
      const { redis, spell } = yield* redisOn(cluster(), { commandTimeout: "300 millis" })
      const keys = yield* keysFor(spell, "far:")
      const [here = "", gone = "", there = ""] = keys
      for (const key of keys) yield* redis.set(key, key)
      const master = yield* cluster().killMaster(spell(gone))
      assert.deepInclude(yield* Effect.flip(redis.del(keys)), {
        command: "unlink",
        reason: "connection",
        outcome: "Unknown"
      })
      assert.deepStrictEqual(yield* stored([here, there].map((key) => spell(key))), [0, 0])
      assert.deepInclude(yield* Effect.flip(redis.del([gone])), { reason: "connection", outcome: "NotSent" })
      yield* master.restart
      yield* cluster().settled
      assert.deepStrictEqual(yield* redis.mget(keys), [Option.none(), Option.some(gone), Option.none()])
      assert.strictEqual(yield* redis.del(keys), 1)
    }))
})
