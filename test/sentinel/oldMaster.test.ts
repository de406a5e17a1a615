/** A master that is one no more, and what it had been told to do. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import type { SharedClient } from "../../src/RedisClient.ts"
import { loneSentinel, watchInstead } from "../support/loneSentinel.ts"
import { Proxy } from "../support/proxy.ts"
import { eventually } from "../support/queuesOnRedis.ts"
import { RedisSentinel } from "../support/redisSentinel.ts"
import { RedisServer } from "../support/redisServer.ts"
import { build, followed, incr, through } from "../support/sentinelClient.ts"

describe("An old master", () => {
  it.live("whose replies were lost, but not what it did: no command runs again that may not", () =>
    Effect.gen(function*() {
      const deployment = yield* RedisSentinel.start()
      const before = yield* deployment.master
      const proxy = yield* Proxy.start(before)
      const { sentinel } = through(deployment)
      const natMap = { [`${before.host}:${before.port}`]: { host: "127.0.0.1", port: proxy.port } }
      const client = yield* build({ sentinel: { ...sentinel, natMap }, commandTimeout: "10 seconds" })
      yield* proxy.swallow("replies")
      const once = yield* Effect.forkChild(Effect.flip(incr(client, "once", false)))
      const again = yield* Effect.forkChild(incr(client, "again", true))
      yield* eventually("they have run", Effect.map(before.cli("GET", "again"), (value) => value === "1"))
      yield* before.cli("WAIT", 1, 0)
      yield* deployment.killMaster
      yield* proxy.refuse
      yield* proxy.cut
      assert.deepInclude(yield* Fiber.join(once), { reason: "connection", outcome: "Unknown" })
      assert.strictEqual(yield* Fiber.join(again), 2)
      assert.strictEqual(yield* incr(client, "once", false), 2)
    }).pipe(Effect.scoped))

  it.live("that stood still through the failover, and comes back, is left", () =>
    Effect.gen(function*() {
      const deployment = yield* RedisSentinel.start()
      const before = yield* deployment.master
      const client = yield* build({
        ...through(deployment),
        commandTimeout: "400 millis",
        connectTimeout: "400 millis"
      })
      yield* incr(client, "n", false)
      yield* before.cli("WAIT", 1, 0)
      yield* before.pause
      const error = yield* Effect.flip(incr(client, "n", false))
      assert.deepInclude(error, { reason: "timeout", outcome: "Unknown" })
      yield* followed(client, before)
      assert.strictEqual(yield* incr(client, "n", false), 2)
      yield* before.resume
      yield* deployment.settled
      assert.strictEqual(yield* incr(client, "n", false), 3)
      assert.strictEqual(yield* (yield* deployment.master).cli("GET", "n"), "3")
      assert.deepStrictEqual(yield* before.clients(({ name }) => name?.startsWith("app:") === true), [])
    }).pipe(Effect.scoped))

  it.live("that was demoted and keeps its connections gets no write: each runs on the new one, once", () =>
    Effect.gen(function*() {
      const [old, next] = yield* Effect.all([RedisServer.start(), RedisServer.start()])
      const sentinel = yield* loneSentinel(old)
      const client = yield* build({ sentinel: { name: "main", nodes: [sentinel] } })
      const script = (redis: SharedClient) => redis.eval("return redis.call('INCR', KEYS[1])", 1, "scripted")
      const warnings: Array<Error> = []
      const warned = (warning: Error) => void warnings.push(warning)
      yield* Effect.acquireRelease(
        Effect.sync(() => process.on("warning", warned)),
        () => Effect.sync(() => process.off("warning", warned))
      )
      yield* incr(client, "n", false)
      yield* old.cli("REPLICAOF", next.host, next.port)
      yield* watchInstead(sentinel, next)
      const replies = yield* Effect.all([
        ...Array.from({ length: 10 }, () => incr(client, "n", false)),
        client.use("eval", script),
        client.multi((transaction) => transaction.incr("m").incr("m"))
      ], { concurrency: "unbounded" })
      assert.deepStrictEqual(replies, [...Array.from({ length: 10 }, (_, i) => i + 1), 1, [1, 2]])
      assert.strictEqual(client.raw.stream.remotePort, next.port)
      // Like those of a stream that was closed by each of many refusals.
      assert.deepStrictEqual(warnings, [])
    }).pipe(Effect.scoped))

  it.live("that was demoted between two commands of one call refuses the call, which may have run in part", () =>
    Effect.gen(function*() {
      const [old, next] = yield* Effect.all([RedisServer.start(), RedisServer.start()])
      const sentinel = yield* loneSentinel(old)
      const client = yield* build({ sentinel: { name: "main", nodes: [sentinel] } })
      yield* watchInstead(sentinel, next)
      let sent = 0
      const error = yield* Effect.flip(client.use("both", async (redis) => {
        sent++
        await Promise.all([redis.incr("n"), redis.replicaof(next.host, next.port), redis.incr("n")])
      }))
      assert.deepInclude(error, { reason: "read-only", outcome: "Rejected" })
      yield* incr(client, "n", false)
      assert.strictEqual(sent, 1)
    }).pipe(Effect.scoped))
})
