/** A master that dies, hangs or gives way: what becomes of the calls, and that they go on at its successor. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Result, Scope } from "effect"
import type { RedisClient } from "../../src/RedisClient.ts"
import { elapseLive } from "../support/elapse.ts"
import { type Increments, incrementWhile } from "../support/incrementers.ts"
import { eventually } from "../support/queuesOnRedis.ts"
import { RedisCluster } from "../support/redisCluster.ts"
import { connectTo, keyAtEach, keysAt, suiteCluster } from "../support/suiteCluster.ts"

// Each test is done with it when all masters have a replica again.
const cluster = suiteCluster({ nodeTimeoutMillis: 500 })

const total = ({ use }: RedisClient["Service"], keys: ReadonlyArray<string>) =>
  Effect.map(
    use("get", (redis) => Promise.all(keys.map((key) => redis.get(key))), { repeatable: true }),
    (values) => values.reduce((sum, value) => sum + Number(value), 0)
  )

const unknown = ({ failures }: Increments) => failures.filter(({ outcome }) => outcome === "Unknown").length

/** Keys at the master that each test takes down, and at another. */
const keys = (prefix: string) =>
  Effect.gen(function*() {
    const [here = "", there = ""] = yield* keyAtEach(cluster(), prefix)
    return { here, there, master: yield* cluster().masterOf(here) }
  })

describe("A master that gives way to its replica", () => {
  it.live("loses no call, and leaves nobody in doubt", () =>
    Effect.gen(function*() {
      const client = yield* connectTo(cluster())
      const { here, master, there } = yield* keys("planned")
      const result = yield* incrementWhile(
        client,
        [here, there],
        20,
        Effect.gen(function*() {
          yield* elapseLive("30 millis")
          const successor = yield* cluster().failover(master)
          yield* elapseLive("30 millis")
          assert.strictEqual(yield* cluster().masterOf(here), successor)
        })
      )
      assert.deepStrictEqual(result.failures, [])
      assert.strictEqual(yield* total(client, [here, there]), result.acknowledged)
    }))

  it.live("is left by what is reserved, too, once it has refused a call", () =>
    Effect.gen(function*() {
      const client = yield* connectTo(cluster())
      const { here, master } = yield* keys("reserved")
      const set = Effect.scoped(
        Effect.flatMap(client.reserveFor(here), ({ use }) => use("set", (redis) => redis.set(here, "1")))
      )
      yield* set
      yield* cluster().failover(master)
      const error = yield* Effect.flip(set)
      assert.deepInclude(error, { reason: "cluster-down", outcome: "Rejected" })
      assert.match(error.detail, /^MOVED \d+ \S+$/)
      yield* eventually("it goes to the successor", Effect.map(Effect.result(set), Result.isSuccess))
    }))
})

describe("A master that is killed", () => {
  it.live("leaves each call acknowledged, not sent or in doubt; what waits goes on at the successor", () =>
    Effect.gen(function*() {
      const client = yield* connectTo(cluster())
      const { here, master, there } = yield* keys("killed")
      const result = yield* incrementWhile(
        client,
        [here, there],
        20,
        Effect.gen(function*() {
          yield* elapseLive("50 millis")
          yield* master.kill()
          // Whoever comes before the end of the connection is noticed is in doubt, like those that were under way.
          const before = yield* Effect.retry(client.use("before", (redis) => redis.incr(here)), {
            while: ({ outcome }) => outcome === "Unknown"
          })
          const after = yield* client.use("after", (redis) => redis.incr(here))
          assert.strictEqual(after > before, true)
          yield* cluster().settled
        })
      )
      yield* master.restart
      yield* cluster().settled
      // Some were under way when it died; none waited in vain for the other.
      for (const { outcome, reason } of result.failures) {
        assert.deepStrictEqual({ outcome, reason }, { outcome: "Unknown", reason: "connection" })
      }
      assert.isAtMost(result.failures.length, 20)
      assert.isBelow(result.slowest, 5000)
      const sum = (yield* total(client, [here, there])) - 2
      assert.isAtMost(sum, result.acknowledged + unknown(result))
      // A replica gets what its master has acknowledged a moment later, or never: the last few may be lost with it.
      assert.isAtLeast(sum, result.acknowledged - 40)
    }))

  it.live("has what may be repeated run again at the successor, and what is waited for by WAIT not lost", () =>
    Effect.gen(function*() {
      const client = yield* connectTo(cluster())
      const { here, master } = yield* keys("repeated")
      yield* client.use("set", (redis) => redis.set(here, "kept"))
      yield* master.cli("WAIT", 1, 1000)
      yield* master.pause
      // Written, and never answered.
      const reads = yield* Effect.forkChild(
        Effect.all(
          Array.from({ length: 5 }, () => client.use("get", (redis) => redis.get(here), { repeatable: true })),
          { concurrency: "unbounded" }
        )
      )
      const piped = yield* Effect.forkChild(client.pipeline((all) => all.get(here).strlen(here)))
      const write = yield* Effect.forkChild(Effect.flip(client.use("append", (redis) => redis.append(here, "!"))))
      yield* elapseLive("30 millis")
      yield* master.kill()
      assert.deepStrictEqual(yield* Fiber.join(reads), Array.from({ length: 5 }, () => "kept"))
      assert.deepInclude(yield* Fiber.join(write), { command: "append", reason: "connection", outcome: "Unknown" })
      for (const result of yield* Fiber.join(piped)) {
        assert.isTrue(Result.isFailure(result) && result.failure.outcome === "Unknown")
      }
      assert.strictEqual(yield* client.use("get", (redis) => redis.get(here)), "kept")
      yield* master.restart
      yield* cluster().settled
    }))
})

describe("A master that hangs", () => {
  it.live("costs what it was sent its deadline; then its successor is asked", () =>
    Effect.gen(function*() {
      const client = yield* connectTo(cluster(), { commandTimeout: "1 second" })
      const { here, master, there } = yield* keys("hangs")
      yield* client.use("set", (redis) => redis.set(here, "0"))
      yield* master.cli("WAIT", 1, 1000)
      yield* Effect.gen(function*() {
        yield* master.pause
        const error = yield* Effect.flip(client.use("incr", (redis) => redis.incr(here)))
        assert.deepInclude(error, { reason: "timeout", outcome: "Unknown" })
        // From when the others take the master for dead until it has a successor, they refuse all calls.
        const patient = { timeout: "10 seconds" } as const
        assert.strictEqual(yield* client.use("incr", (redis) => redis.incr(there), patient), 1)
        yield* cluster().settled
        assert.strictEqual(yield* client.use("incr", (redis) => redis.incr(here), patient), 1)
      }).pipe(Effect.ensuring(master.resume))
      yield* cluster().settled
      assert.strictEqual(yield* client.use("incr", (redis) => redis.incr(here)), 2)
    }))

  it.live("does not hold up the end of a scope, which leaves no connection anywhere", () =>
    Effect.gen(function*() {
      const namespace = "hangs-at-the-end"
      const scope = yield* Scope.make()
      const client = yield* Scope.provide(connectTo(cluster(), { namespace }), scope)
      const [paused, killed] = yield* cluster().masters
      const [key = ""] = yield* keysAt(cluster(), paused!, 1, "end")
      yield* Scope.provide(client.reserveFor(key), scope)
      yield* Scope.provide(client.subscribe("shard", key, { onMessage: () => {} }), scope)
      yield* Scope.provide(client.subscribe("channel", key, { onMessage: () => {} }), scope)
      yield* Effect.gen(function*() {
        yield* paused!.pause
        yield* killed!.kill()
        const waits = yield* Effect.forkChild(Effect.flip(client.use("get", (redis) => redis.get(key))))
        yield* elapseLive("50 millis")
        const before = performance.now()
        yield* Scope.close(scope, Exit.void)
        // A deadline is five seconds.
        assert.isBelow(performance.now() - before, 4000)
        assert.deepInclude(yield* Fiber.join(waits), { reason: "connection" })
      }).pipe(Effect.ensuring(Effect.andThen(paused!.resume, killed!.restart)))
      yield* cluster().settled
      for (const node of cluster().nodes) {
        assert.deepStrictEqual(yield* node.clients(({ name }) => name!.startsWith(`${namespace}:`)), [])
      }
    }))
})

describe("A connection that is killed over and over", () => {
  it.live("is opened again, and calls to other servers notice nothing", () =>
    Effect.gen(function*() {
      const client = yield* connectTo(cluster())
      const { here, master, there } = yield* keys("cut")
      const others = yield* Effect.forkChild(
        incrementWhile(client, [there], 3, elapseLive("400 millis"))
      )
      const result = yield* incrementWhile(
        client,
        [here],
        5,
        Effect.forEach(Array.from({ length: 6 }), () =>
          Effect.andThen(master.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"), elapseLive("60 millis")))
      )
      for (const { outcome, reason } of result.failures) {
        assert.deepStrictEqual({ outcome, reason }, { outcome: "Unknown", reason: "connection" })
      }
      const sum = yield* total(client, [here])
      assert.isAtLeast(sum, result.acknowledged)
      assert.isAtMost(sum, result.acknowledged + unknown(result))
      const undisturbed = yield* Fiber.join(others)
      assert.deepStrictEqual(undisturbed.failures, [])
      assert.strictEqual(yield* total(client, [there]), undisturbed.acknowledged)
    }))
})

describe("A call that is given up while nobody serves its key", () => {
  it.live("is never sent, also when it was one of a function's", () =>
    Effect.gen(function*() {
      const all = yield* RedisCluster.start({
        masters: 2,
        replicas: 0,
        persistence: "aof-always",
        args: ["--cluster-require-full-coverage", "no"]
      })
      const client = yield* connectTo(all)
      const [here = ""] = yield* keyAtEach(all, "given up")
      const master = yield* all.killMaster(here)
      const calls = yield* Effect.forkChild(
        Effect.all([
          client.use("incr", (redis) => redis.incr(here)),
          client.use("incr", (redis) => redis.incr(here), { key: here }),
          client.pipeline((commands) => commands.incr(here).incr(here)),
          client.multi((commands) => commands.incr(here))
        ], { concurrency: "unbounded" })
      )
      const late = yield* Effect.flip(client.use("incr", (redis) => redis.incr(here), { timeout: "60 millis" }))
      assert.deepInclude(late, { reason: "connection", outcome: "NotSent" })
      yield* Fiber.interrupt(calls)
      yield* master.restart
      const get = client.use("get", (redis) => redis.get(here), { repeatable: true })
      assert.isNull(yield* get)
    }))
})
