/** Reads from replicas, where settings ask for it, and nothing else. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { RedisClient } from "../../src/RedisClient.ts"
import { RedisCluster } from "../support/redisCluster.ts"
import { type RedisServer, tell } from "../support/redisServer.ts"
import { connect, settingsOf } from "../support/suiteCluster.ts"
import { until } from "../support/until.ts"

/** How often it has run, or refused, GET. */
const countOf = (node: RedisServer, field: "calls" | "rejected_calls") =>
  Effect.map(
    node.cli("INFO", "commandstats"),
    (text) => Number(new RegExp(`cmdstat_get:(?:.*,)?${field}=(\\d+)`).exec(String(text))?.[1] ?? 0)
  )
const readsOf = (node: RedisServer) => countOf(node, "calls")

/** Waits until a replica says that its link to its master is so. */
const link = (replica: RedisServer, is: "up" | "down") =>
  until(`The link of ${replica.port} is ${is}`, async () => {
    const info = String(await tell(replica, "INFO", "replication"))
    if (!info.includes(`master_link_status:${is}`)) throw new Error(info)
  })

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

  it.live("has the master read what a replica refuses, whose link to it is down", () =>
    Effect.gen(function*() {
      const all = yield* RedisCluster.start({ masters: 1, replicas: 1 })
      const settings = settingsOf(all, { cluster: { nodes: all.addresses, readFrom: "replica" } })
      const client = yield* connect(settings)
      const [master, replica] = [all.nodes[0]!, all.nodes[1]!]
      const get = ({ use }: RedisClient["Service"]) =>
        use("get", (redis) => redis.get("k"), { repeatable: true, fromReplica: true })
      yield* client.use("set", (redis) => redis.set("k", "1"))
      yield* Effect.repeat(Effect.andThen(get(client), readsOf(replica)), { until: (reads) => reads > 0 })

      const [, password] = (yield* replica.cli("CONFIG", "GET", "masterauth")) as ReadonlyArray<string>
      yield* replica.cli("CONFIG", "SET", "masterauth", "another", "replica-serve-stale-data", "no")
      yield* master.cli("CLIENT", "KILL", "TYPE", "replica")
      yield* link(replica, "down")
      for (const node of [master, replica]) yield* node.cli("CONFIG", "RESETSTAT")
      for (let i = 0; i < 5; i++) assert.strictEqual(yield* get(client), "1")
      assert.deepStrictEqual([yield* readsOf(master), yield* readsOf(replica)], [5, 0])
      // It was asked: nobody tells that it may not answer.
      assert.strictEqual(yield* countOf(replica, "rejected_calls"), 5)
      // Who comes now finds its way as well.
      assert.strictEqual(yield* get(yield* connect(settings)), "1")

      yield* replica.cli("CONFIG", "SET", "masterauth", password!)
      yield* link(replica, "up")
      for (const node of [master, replica]) yield* node.cli("CONFIG", "RESETSTAT")
      for (let i = 0; i < 5; i++) assert.strictEqual(yield* get(client), "1")
      assert.deepStrictEqual([yield* readsOf(master), yield* readsOf(replica)], [0, 5])
    }))
})
