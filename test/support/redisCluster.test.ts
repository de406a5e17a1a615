/** That the Cluster of the tests is a real one, and that it does what it is told. Under TestClock: nothing may wait for it. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Scope } from "effect"
import { Cluster, type RedisOptions } from "ioredis"
import { existsSync } from "node:fs"
import { certificates } from "./certificates.ts"
import { Proxy } from "./proxy.ts"
import { RedisCluster } from "./redisCluster.ts"
import { request } from "./resp.ts"
import { sharedClusterNodes } from "./sharedRedis.ts"

const client = (cluster: RedisCluster, redisOptions: Omit<RedisOptions, "replyMapping"> = {}) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const redis = new Cluster([...cluster.addresses], { redisOptions })
      redis.on("error", () => {})
      return redis
    }),
    (redis) => Effect.sync(() => redis.disconnect())
  )

const run = <A>(f: () => Promise<A>) => Effect.promise(f)

const isAlive = (pid: number) => {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

const countOf = (nodes: ReadonlyArray<unknown>) => nodes.length

/** Names of keys that all belong to one slot. */
const keysOf = (tag: string, count: number) => Array.from({ length: count }, (_, i) => `{${tag}}:${i}`)

describe("RedisCluster", () => {
  it.effect("has three masters with a replica each while its scope is open, and leaves nothing behind", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const cluster = yield* Scope.provide(RedisCluster.start(), scope)
      const masters = yield* cluster.masters
      assert.lengthOf(cluster.nodes, 6)
      assert.deepStrictEqual(masters, cluster.nodes.slice(0, 3))
      assert.deepStrictEqual(yield* cluster.replicas(), cluster.nodes.slice(3))
      const replicasEach = yield* Effect.forEach(masters, (master) => Effect.map(cluster.replicas(master), countOf))
      assert.deepStrictEqual(replicasEach, [1, 1, 1])

      for (const key of ["a", "user:{42}:name", "{}x", "a{b", "{{c}}", "é"]) {
        const master = yield* cluster.masterOf(key)
        assert.strictEqual(yield* master.cli("CLUSTER", "KEYSLOT", key), cluster.slotOf(key))
        yield* master.cli("SET", key, "v")
      }
      const redis = yield* Scope.provide(client(cluster), scope)
      assert.strictEqual(yield* run(() => redis.get("user:{42}:name")), "v")

      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(cluster.nodes.filter(({ directory, pid }) => isAlive(pid) || existsSync(directory)), [])
    }))

  it.effect("moves a slot with its keys, at once or in steps, and puts it back half-way", () =>
    Effect.gen(function*() {
      const cluster = yield* RedisCluster.start({ masters: 2, replicas: 0, password: "p@ss word" })
      const keys = keysOf("moving", 25)
      const from = yield* cluster.masterOf("{moving}")
      const to = (yield* cluster.masters).find((master) => master !== from) ?? from
      yield* Effect.forEach(keys, (key) => from.cli("SET", key, key))

      const given = yield* cluster.beginMigration("{moving}", to)
      assert.strictEqual(yield* given.moveKeys(10), 10)
      assert.strictEqual(yield* given.keysLeft, 15)
      assert.strictEqual(yield* to.cli("DBSIZE"), 10)
      const replies = yield* Effect.forEach(keys, (key) => Effect.exit(from.cli("GET", key)))
      assert.lengthOf(replies.filter((reply) => String(reply).includes(`ASK ${cluster.slotOf("{moving}")}`)), 10)
      yield* given.cancel
      assert.strictEqual(yield* from.cli("DBSIZE"), 25)

      const seen: Array<unknown> = []
      yield* cluster.migrate("{moving}", to, {
        chunk: 10,
        beforeKeys: Effect.tap(from.cli("DBSIZE"), (size) => Effect.sync(() => seen.push(size))),
        betweenKeys: Effect.tap(from.cli("DBSIZE"), (size) => Effect.sync(() => seen.push(size)))
      })
      assert.deepStrictEqual(seen, [25, 15, 5, 0])
      assert.strictEqual(yield* cluster.masterOf("{moving}"), to)
      assert.match(String(yield* Effect.exit(from.cli("GET", "{moving}:0"))), /MOVED/)
      const redis = yield* client(cluster, { password: "p@ss word" })
      for (const key of keys) assert.strictEqual(yield* run(() => redis.get(key)), key)
      yield* cluster.settled
    }))

  it.effect("makes a replica the master when it is told to, and when the master dies", () =>
    Effect.gen(function*() {
      const cluster = yield* RedisCluster.start({ nodeTimeoutMillis: 500 })
      const before = yield* cluster.masterOf("k")
      yield* before.cli("SET", "k", "v")
      const after = yield* cluster.failover(before)
      assert.strictEqual(yield* cluster.masterOf("k"), after)
      assert.deepStrictEqual([yield* before.role, yield* after.role], ["replica", "master"])
      assert.strictEqual(yield* after.cli("GET", "k"), "v")

      assert.strictEqual(yield* cluster.killMaster("k"), after)
      assert.strictEqual(after.state, "stopped")
      yield* cluster.settled
      assert.strictEqual(yield* cluster.masterOf("k"), before)
      assert.strictEqual(yield* before.cli("GET", "k"), "v")
      yield* after.restart
      yield* cluster.settled
      assert.deepStrictEqual(yield* cluster.replicas(before), [after])
    }))

  it.effect("speaks TLS to clients and between nodes, and has the same users on each", () =>
    Effect.gen(function*() {
      const certs = yield* certificates
      const cluster = yield* RedisCluster.start({
        replicas: 1,
        tls: { certs, clients: "required" },
        acl: ["default off", "app on >secret ~* &* +@all"]
      })
      const tls = { ca: certs.ca, ...certs.client }
      const redis = yield* client(cluster, { username: "app", password: "secret", tls })
      for (const key of ["a", "b", "c", "d"]) yield* run(() => redis.set(key, key))
      const ports = redis.nodes("all").map(({ options }) => options.port ?? 0).toSorted((a, b) => a - b)
      assert.deepStrictEqual(ports, cluster.nodes.map(({ tlsPort = 0 }) => tlsPort).toSorted((a, b) => a - b))
      const from = yield* cluster.masterOf("a")
      const to = (yield* cluster.masters).find((master) => master !== from) ?? from
      yield* cluster.migrate("a", to)
      assert.strictEqual(yield* run(() => redis.get("a")), "a")
    }))

  it.effect("shows itself as something else, also after a restart", () =>
    Effect.gen(function*() {
      const proxies: Array<Proxy> = []
      const cluster = yield* RedisCluster.start({
        masters: 1,
        replicas: 1,
        announce: (node, index) =>
          Effect.map(Proxy.start(node), (proxy) => {
            proxies[index] = proxy
            return { port: proxy.port, hostname: `node-${index}.test` }
          })
      })
      for (const replica of yield* cluster.replicas()) yield* replica.restart
      yield* cluster.settled
      const slots = JSON.stringify(yield* (yield* cluster.masterOf("k")).cli("CLUSTER", "SLOTS"))
      for (const [index, { port }] of proxies.entries()) assert.include(slots, `"node-${index}.test",${port},`)
    }))
})

describe("sharedClusterNodes", () => {
  it.effect("are the same for all who ask, and up", () =>
    Effect.gen(function*() {
      const [nodes, again] = yield* Effect.all([sharedClusterNodes, sharedClusterNodes], {
        concurrency: "unbounded"
      })
      assert.lengthOf(nodes, 6)
      assert.deepStrictEqual(nodes, again)
      for (const { port } of nodes) {
        assert.include(String(yield* run(() => request(port, [["CLUSTER", "INFO"]]))), "cluster_state:ok")
      }
    }))
})
