/** What is logged at start of servers that may lose what services keep there. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Logger } from "effect"
import { DistributedLockLive } from "../src/DistributedLock.ts"
import { warningsOf } from "../src/internal/startWarnings.ts"
import { JobQueueLive } from "../src/JobQueue.ts"
import { RedisClient } from "../src/RedisClient.ts"
import { RedisServer, type RedisServerOptions } from "./support/redisServer.ts"

/** The warnings of both services on a server, when they are there. */
const warningsOn = (options: RedisServerOptions, count: number) =>
  Effect.scoped(Effect.gen(function*() {
    const server = yield* RedisServer.start(options)
    const logged: Array<string> = []
    const logger = Logger.make(({ logLevel, message }) => {
      if (logLevel === "Warn") logged.push(String(message))
    })
    yield* Layer.build(
      Layer.mergeAll(JobQueueLive, DistributedLockLive).pipe(
        Layer.provide(RedisClient.layer({ url: server.url })),
        Layer.provide(Logger.layer([logger]))
      )
    )
    // Each has asked by then, over the same connection.
    while ((yield* server.clients(({ cmd }) => cmd === "info")).length === 0 || logged.length < count) {
      yield* Effect.sleep("5 millis")
    }
    return logged
  }))

describe("At start", () => {
  it.live("the log tells that the server may evict keys, once for all services, and that it keeps no file", () =>
    Effect.gen(function*() {
      const warnings = yield* warningsOn({ args: ["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"] }, 2)
      assert.strictEqual(warnings.length, 2)
      assert.match(warnings.join("\n"), /may evict any key.*set noeviction/)
      assert.match(warnings.join("\n"), /append-only file is off/)
    }))

  it.live("the log is silent about a server that keeps everything", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(
        yield* warningsOn({ args: ["--maxmemory", "100mb"], persistence: "aof-everysec" }, 0),
        []
      )
    }))

  it("tells of versions that are too old, and of no other", () => {
    const version = (info: Record<string, string>) => warningsOf(info, "locks")
    assert.match(version({ redis_version: "6.0.16" }).join(), /redis 6\.0\.16.*needs 6\.2/)
    assert.match(version({ redis_version: "7.2.4", valkey_version: "7.0.1" }).join(), /valkey 7\.0\.1.*needs 7\.2/)
    for (const redis_version of ["6.2.0", "7.0.15", "8.4.0", "10.0.0"]) {
      assert.deepStrictEqual(version({ redis_version }), [])
    }
    assert.deepStrictEqual(version({ redis_version: "7.2.4", valkey_version: "8.0.0" }), [])
  })

  it("tells of a Cluster's server that is used as if it were alone", () => {
    assert.match(warningsOf({ redis_mode: "cluster" }, "locks").join(), /one of a Cluster's.*REDIS_CLUSTER_NODES/)
    assert.deepStrictEqual(warningsOf({ redis_mode: "cluster" }, "locks", true), [])
    assert.deepStrictEqual(warningsOf({ redis_mode: "standalone" }, "locks"), [])
  })

  it("tells who may be evicted", () => {
    const policy = (maxmemory_policy: string, maxmemory = "1000") =>
      warningsOf({ maxmemory, maxmemory_policy }, "locks")
    assert.match(policy("volatile-ttl").join(), /locks, and whatever else expires/)
    assert.match(policy("allkeys-random").join(), /any key/)
    assert.deepStrictEqual(policy("noeviction"), [])
    assert.deepStrictEqual(policy("allkeys-lru", "0"), [])
  })
})
