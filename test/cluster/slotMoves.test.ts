/** What calls do while their slot moves: scripts that a server does not know, writes that wait for replicas, several commands. */
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer, Schema } from "effect"
import { RedisClient } from "../../src/RedisClient.ts"
import * as RedisScript from "../../src/RedisScript.ts"
import { RedisCluster } from "../support/redisCluster.ts"

const count = RedisScript.make({
  name: "count",
  keys: ["counter"],
  result: Schema.Finite,
  lua: `return redis.call("INCR", counter)`
})

const keyAt = (index: number) => `{counted}:${index}`
const counter = keyAt(0)

/** A Cluster whose slot of `counter` is about to move, and a client. */
const start = (keyCount: number) =>
  Effect.gen(function*() {
    const cluster = yield* RedisCluster.start()
    const context = yield* Layer.build(RedisClient.layer({ url: cluster.url }))
    const client = Context.get(context, RedisClient)
    for (let i = 0; i < keyCount; i++) yield* client.use("set", (redis) => redis.set(keyAt(i), "0"))
    const from = yield* cluster.masterOf(counter)
    const to = (yield* cluster.masters).find((master) => master !== from)!
    return {
      client,
      migration: yield* cluster.beginMigration(counter, to),
      counted: Effect.map(client.use("get", (redis) => redis.get(counter)), Number),
      plain: client.script(count, { counter }),
      durable: client.script(count, { counter }, { replicas: { count: 1, within: 2000 } })
    }
  })

describe("While a slot moves", () => {
  it.live("a script follows its key to a server that does not know the script", () =>
    Effect.scoped(Effect.gen(function*() {
      const { migration, plain } = yield* start(1)
      yield* migration.moveKeys(1)
      assert.strictEqual(yield* plain, 1)
    })))

  it.live("one that waits for replicas runs once, wherever its key is, before, while and after it has moved", () =>
    Effect.scoped(Effect.gen(function*() {
      const { counted, durable, migration } = yield* start(1)
      // Its mark finds no place beside a key that is still there.
      assert.deepInclude(yield* Effect.flip(durable), { reason: "not-replicated", outcome: "Unknown" })
      assert.strictEqual(yield* counted, 1)
      yield* migration.moveKeys(1)
      assert.strictEqual(yield* durable, 2)
      yield* migration.finish
      assert.strictEqual(yield* durable, 3)
      assert.strictEqual(yield* counted, 3)
    })))

  it.live("a call of several commands is not sent again because one of them has to wait", () =>
    Effect.scoped(Effect.gen(function*() {
      const keys = Array.from({ length: 10 }, (_, index) => keyAt(index))
      const { client, migration } = yield* start(keys.length)
      yield* migration.moveKeys(keys.length / 2)
      const { from, slot } = migration
      const [staying = ""] = (yield* from.cli("CLUSTER", "GETKEYSINSLOT", slot, 1)) as ReadonlyArray<string>
      const error = yield* Effect.flip(
        client.use("two", (redis) => Promise.all([redis.incr(staying), redis.mget(...keys)]), { key: counter })
      )
      assert.match(error.detail, /^TRYAGAIN/)
      assert.strictEqual(yield* from.cli("GET", staying), "1")
    })))
})
