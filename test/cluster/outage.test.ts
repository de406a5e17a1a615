/** A Cluster that serves not all of its slots, or none: what calls and Health say, and that all goes on when it is mended. */
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Fiber, Layer } from "effect"
import { Health, type HealthReport } from "../../src/Health.ts"
import { RedisClient } from "../../src/RedisClient.ts"
import type { RedisSettings } from "../../src/RedisSettings.ts"
import { elapseLive } from "../support/elapse.ts"
import { NodeProcess } from "../support/processes.ts"
import { type ClusterNode, RedisCluster } from "../support/redisCluster.ts"
import { connect, connectTo, keyAtEach, settingsOf } from "../support/suiteCluster.ts"

const withHealth = (all: RedisCluster, more: RedisSettings = {}) =>
  Effect.map(
    Layer.build(
      Layer.orDie(
        Layer.provideMerge(Health.layer({ cache: 0, deadline: 300 }), RedisClient.layer(settingsOf(all, more)))
      )
    ),
    (context) => ({ client: Context.get(context, RedisClient), health: Context.get(context, Health) })
  )

const until = (
  check: Effect.Effect<HealthReport>,
  isSo: (report: HealthReport) => boolean
): Effect.Effect<HealthReport> =>
  Effect.gen(function*() {
    const last = performance.now() + 10_000
    for (;;) {
      const report = yield* check
      if (isSo(report)) return report
      if (performance.now() > last) assert.fail(`Not within 10 seconds: ${JSON.stringify(report)}`)
      yield* elapseLive("20 millis")
    }
  })

/** Whoever waits for that waits longer than a test may take. */
const patient = { connectTimeout: "1 minute", commandTimeout: "1 minute" } as const

const isHealthy = ({ status }: HealthReport) => status === "healthy"

describe("Too few masters", () => {
  it.live(
    "have calls wait, and fail as cluster-down at the deadline; what waits goes on when they are back",
    () =>
      Effect.gen(function*() {
        const all = yield* RedisCluster.start({ masters: 3, replicas: 0, nodeTimeoutMillis: 500 })
        const { client, health } = yield* withHealth(all, { commandTimeout: "400 millis" })
        yield* until(health.check, isHealthy)
        const [here = "", there = "", yonder = ""] = yield* keyAtEach(all)
        const left = yield* all.masterOf(here)
        for (const node of all.nodes) if (node !== left) yield* node.kill()
        yield* Effect.repeat(left.cli("CLUSTER", "INFO"), {
          until: (info) => String(info).includes("cluster_state:fail")
        })
        yield* left.cli("CONFIG", "RESETSTAT")
        const error = yield* Effect.flip(client.use("incr", (redis) => redis.incr(here)))
        assert.deepInclude(error, { reason: "cluster-down", outcome: "Rejected" })
        assert.match(error.detail, /^CLUSTERDOWN/)
        const [, attempts] = /cmdstat_incr:.*rejected_calls=(\d+)/.exec(
          String(yield* left.cli("INFO", "commandstats"))
        ) ?? []
        assert.isAbove(Number(attempts), 1)
        // Of those that are gone it says more.
        const gone = yield* Effect.flip(client.use("incr", (redis) => redis.incr(there)))
        assert.deepInclude(gone, { reason: "connection", outcome: "NotSent" })
        assert.match(gone.detail, /ECONNREFUSED/)
        const report = yield* health.check
        assert.strictEqual(report.status, "unhealthy")
        assert.match(report.reasons.join("\n"), /not all hash slots are served/)
        assert.match(report.reasons.join("\n"), /2 of 3 masters: there is no connection/)
        assert.notInclude(JSON.stringify(report), "127.0.0.1")
        assert.strictEqual((yield* health.live).status, "alive")
        assert.strictEqual((yield* health.ready).status, "unready")

        const waiting = yield* Effect.forkChild(
          client.use("three", (redis) => Promise.all([here, there, yonder].map((key) => redis.set(key, "1"))), {
            timeout: "10 seconds"
          })
        )
        yield* Effect.forEach(all.nodes.filter((node) => node !== left), (node) => node.restart)
        assert.deepStrictEqual(yield* Fiber.join(waiting), ["OK", "OK", "OK"])
        const after = yield* until(health.check, isHealthy)
        assert.lengthOf(after.components.redis.details.masters ?? [], 3)
        assert.strictEqual(after.components.redis.details.reconnects, 1)
      }),
    20_000
  )
})

describe("Slots that nobody has", () => {
  it.live("fail their calls as cluster-down, others go on; Health says so, until somebody takes them", () =>
    Effect.gen(function*() {
      const all = yield* RedisCluster.start({
        masters: 2,
        replicas: 0,
        args: ["--cluster-require-full-coverage", "no"]
      })
      const { client, health } = yield* withHealth(all, { commandTimeout: "300 millis" })
      yield* until(health.check, isHealthy)
      const [here = "", there = ""] = yield* keyAtEach(all)
      const owner = yield* all.masterOf(here)
      const slot = all.slotOf(here)
      for (const node of all.nodes) yield* node.cli("CLUSTER", "DELSLOTS", slot)
      const error = yield* Effect.flip(client.use("incr", (redis) => redis.incr(here)))
      assert.deepInclude(error, { reason: "cluster-down" })
      assert.notStrictEqual(error.outcome, "Unknown")
      assert.strictEqual(yield* client.use("incr", (redis) => redis.incr(there)), 1)
      const shard = yield* Effect.flip(Effect.scoped(client.subscribe("shard", here, { onMessage: () => {} })))
      assert.deepInclude(shard, { reason: "cluster-down" })
      const report = yield* health.check
      assert.strictEqual(report.status, "unhealthy")
      assert.include(report.reasons.join("\n"), "not all hash slots are served")
      const refused = yield* Effect.flip(Effect.scoped(connectTo(all, { connectTimeout: "1 second" })))
      assert.deepInclude(refused, { reason: "cluster-down", outcome: "NotSent" })
      const waiting = yield* Effect.forkChild(
        client.use("incr", (redis) => redis.incr(here), { timeout: "10 seconds" })
      )
      yield* owner.cli("CLUSTER", "ADDSLOTS", slot)
      assert.strictEqual(yield* Fiber.join(waiting), 1)
      yield* until(health.check, isHealthy)
    }))
})

describe("A master that hangs", () => {
  it.live("is found unhealthy in time, keeps its connection, and the others are asked all the same", () =>
    Effect.gen(function*() {
      const all = yield* RedisCluster.start({ masters: 3, replicas: 0, nodeTimeoutMillis: 15_000 })
      const { client, health } = yield* withHealth(all)
      yield* until(health.check, isHealthy)
      const [here = ""] = yield* keyAtEach(all)
      const master = yield* all.masterOf(here)
      yield* Effect.gen(function*() {
        yield* master.pause
        const report = yield* health.check
        assert.strictEqual(report.status, "unhealthy")
        assert.deepStrictEqual(report.reasons, ["redis: 1 of 3 masters: no answer within 300 ms"])
        // Looking around for a second and more does no harm to what it was sent.
        const slow = yield* Effect.forkChild(client.use("incr", (redis) => redis.incr(here)))
        const other = all.nodes.find((node) => node !== master)!
        for (let i = 0; i < 4; i++) {
          yield* other.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
          yield* elapseLive("400 millis")
        }
        yield* master.resume
        assert.strictEqual(yield* Fiber.join(slow), 1)
      }).pipe(Effect.ensuring(master.resume))
      yield* until(health.check, isHealthy)
    }))
})

describe("A master that gives way to its replica, and then takes over again", () => {
  it.live("is healthy, though nobody has asked meanwhile", () =>
    Effect.gen(function*() {
      const all = yield* RedisCluster.start({ masters: 1, replicas: 1 })
      const { client, health } = yield* withHealth(all)
      yield* until(health.check, isHealthy)
      /** By then, the connection to the one before is closed, or will be. */
      const follow = (master: ClusterNode) =>
        Effect.repeat(
          Effect.andThen(client.use("set", (redis) => redis.set("k", "1")), client.servers),
          { until: ([server]) => server?.address === `127.0.0.1:${master.port}` }
        )
      const [first] = yield* all.masters
      const successor = yield* all.failover(first!)
      yield* follow(successor)
      assert.strictEqual(yield* all.failover(successor), first)
      yield* follow(first!)
      const report = yield* until(health.check, isHealthy)
      assert.lengthOf(report.components.redis.details.masters ?? [], 1)
    }))
})

describe("A process whose scope has closed", () => {
  it.live("ends by itself while a master is gone and another hangs", () =>
    Effect.gen(function*() {
      const all = yield* RedisCluster.start({ masters: 3, replicas: 0, nodeTimeoutMillis: 500 })
      const child = yield* NodeProcess.start(new URL("../support/fixtures/shutdown.ts", import.meta.url), {
        args: [all.url]
      })
      yield* child.waitForLine("ready")
      const [gone, hangs] = all.nodes
      yield* gone!.kill()
      yield* hangs!.pause
      yield* elapseLive("150 millis")
      yield* child.send("close")
      assert.deepStrictEqual(yield* child.exit, { code: 0, signal: null }, child.output)
      yield* hangs!.resume
    }))

  it.live("ends without a Cluster, too, if it has started without one", () =>
    Effect.gen(function*() {
      const all = yield* RedisCluster.start({ masters: 1, replicas: 0 })
      yield* all.nodes[0]!.kill()
      yield* Effect.scoped(Effect.gen(function*() {
        const client = yield* connect(settingsOf(all, { connect: "background", ...patient }))
        yield* Effect.flip(client.use("get", (redis) => redis.get("k"), { timeout: "50 millis" }))
      }))
    }))
})
