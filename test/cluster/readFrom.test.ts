/** Reads from replicas, where settings ask for it, and nothing else. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { RedisCluster } from "../support/redisCluster.ts"
import type { RedisServer } from "../support/redisServer.ts"
import { connect, settingsOf } from "../support/suiteCluster.ts"

/** How often it has run GET. */
const readsOf = (node: RedisServer) =>
  Effect.map(
    node.cli("INFO", "commandstats"),
    (text) => Number(/cmdstat_get:calls=(\d+)/.exec(String(text))?.[1] ?? 0)
  )

describe("readFrom: replica", () => {
  it.live("reads what may be old from replicas, all else and every write from masters", () =>
    Effect.gen(function*() {
      const all = yield* RedisCluster.start({ masters: 1, replicas: 1, args: ["--repl-ping-replica-period", "1"] })
      const client = yield* connect(settingsOf(all, { cluster: { nodes: all.addresses, readFrom: "replica" } }))
      const old = { repeatable: true, fromReplica: true }
      const get = (options: { repeatable: boolean; fromReplica?: boolean }) =>
        client.use("get", (redis) => redis.get("k"), options)
      yield* client.use("set", (redis) => redis.set("k", "1"))
      yield* Effect.repeat(Effect.delay(get(old), "5 millis"), { until: (value) => value === "1" })
      const check = (master: RedisServer, replica: RedisServer) =>
        Effect.gen(function*() {
          // It learns a moment later who is a replica now.
          yield* Effect.repeat(Effect.andThen(get(old), readsOf(replica)), { until: (reads) => reads > 0 })
          for (const node of [master, replica]) yield* node.cli("CONFIG", "RESETSTAT")
          for (let i = 0; i < 5; i++) yield* get(old)
          assert.deepStrictEqual([yield* readsOf(master), yield* readsOf(replica)], [0, 5])
          for (let i = 0; i < 3; i++) yield* get({ repeatable: true })
          assert.deepStrictEqual([yield* readsOf(master), yield* readsOf(replica)], [3, 5])
        })
      const [master, replica] = [all.nodes[0]!, all.nodes[1]!]
      yield* check(master, replica)
      // Who was a replica and is one no more serves no old values, and the other way round.
      yield* all.failover(master)
      for (const node of all.nodes) yield* node.cli("CONFIG", "RESETSTAT")
      for (let i = 0; i < 3; i++) yield* get({ repeatable: true })
      assert.deepStrictEqual([yield* readsOf(master), yield* readsOf(replica)], [0, 3])
      yield* check(replica, master)
      yield* all.failover(replica)
      for (const node of all.nodes) yield* node.cli("CONFIG", "RESETSTAT")
      for (let i = 0; i < 3; i++) yield* get({ repeatable: true })
      assert.deepStrictEqual([yield* readsOf(master), yield* readsOf(replica)], [3, 0])
    }))
})
