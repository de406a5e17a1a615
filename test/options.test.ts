/** Options of the live layers: whatever makes no sense is refused as the layer is built, in words. */
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Layer, Option, Redacted, Schema } from "effect"
import * as fc from "fast-check"
import { DistributedLock } from "../src/DistributedLock.ts"
import { Health } from "../src/Health.ts"
import { RateLimiter } from "../src/RateLimiter.ts"
import { RedisClient } from "../src/RedisClient.ts"
import type { RedisSettings } from "../src/RedisConfig.ts"
import * as RedisScript from "../src/RedisScript.ts"
import { forAll, noDuration, noName, notWhole, refuses } from "./contract/badInput/support.ts"
import { sharedRedisUrl, uniqueNamespace } from "./support/sharedRedis.ts"

const client = () => RedisClient.layer({ url: sharedRedisUrl(), namespace: uniqueNamespace() })

const built = <A, E>(layer: Layer.Layer<A, E, RedisClient>) => Effect.scoped(Layer.build(layer))

/** Durations that are none, and some that no option takes. */
const outside = (...durations: ReadonlyArray<Duration.Input>) =>
  fc.oneof(noDuration, fc.constantFrom<Duration.Input>(...durations))

describe("DistributedLock.layer", () => {
  it.effect("refuses times and numbers out of range", () =>
    Effect.gen(function*() {
      yield* forAll(outside(0, 99, "25 hours", 1e300), 60, (ttl) =>
        refuses("lock ttl", built(DistributedLock.layer({ ttl })), ttl))
      yield* forAll(outside("25 hours", 1e300), 60, (wait) =>
        refuses("lock wait", built(DistributedLock.layer({ wait })), wait))
      yield* forAll(notWhole(1, 1000), 60, (count) =>
        refuses("replicas.count", built(DistributedLock.layer({ replicas: { count } })), count))
      yield* forAll(outside(0, "61 seconds"), 60, (within) =>
        refuses("replicas.within", built(DistributedLock.layer({ replicas: { count: 1, within } })), within))
    }).pipe(Effect.provide(client())))
})

describe("RateLimiter.layer", () => {
  it.effect("refuses a timeout or a share out of range", () =>
    Effect.gen(function*() {
      yield* forAll(outside(0, "61 minutes", 1e300), 60, (timeout) =>
        refuses("rate limiter timeout", built(RateLimiter.layer({ timeout })), timeout))
      for (const local of [NaN, 0, -1, -Infinity, 1.01, Infinity]) {
        yield* refuses("local share", built(RateLimiter.layer({ onUnavailable: { local } })), local)
      }
    }).pipe(Effect.provide(client())))
})

describe("Health.layer", () => {
  it.effect("refuses times, parts and names that make no sense", () =>
    Effect.gen(function*() {
      yield* forAll(outside(0), 60, (deadline) => refuses("deadline", built(Health.layer({ deadline })), deadline))
      yield* forAll(noDuration, 60, (cache) => refuses("cache", built(Health.layer({ cache })), cache))
      for (const fill of [NaN, 0, -0, -1, 1.01, Infinity, -Infinity]) {
        yield* refuses("fill", built(Health.layer({ fill })), fill)
      }
      yield* forAll(noName, 60, (name) =>
        refuses("required component", built(Health.layer({ required: ["redis", name] })), name))
    }).pipe(Effect.provide(client())))

  const required = ["__proto__", "constructor", "toString", "redis"]

  it.live("takes any name for a required component, and reports it as its own", () =>
    Effect.gen(function*() {
      const { required: found } = yield* Effect.flatMap(Health, ({ ready }) => ready)
      assert.deepStrictEqual(Object.entries(found), [
        ["__proto__", "unhealthy"],
        ["constructor", "unhealthy"],
        ["toString", "unhealthy"],
        ["redis", "healthy"]
      ])
    }).pipe(Effect.provide(Layer.provide(Health.layer({ required }), client()))))
})

describe("RedisClient.layer", () => {
  /** A `RedisError` of connecting, which was not even tried. */
  const refusesSettings = (settings: RedisSettings, words: RegExp) =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(
        Effect.scoped(Layer.build(RedisClient.layer({ url: sharedRedisUrl(), ...settings })))
      )
      assert.deepInclude(error, { _tag: "RedisError", command: "connect", outcome: "NotSent" })
      assert.match(error.detail, words)
    })

  it.live("refuses timeouts that are none", () =>
    forAll(outside(0, 0.5, 2 ** 31, 1e300), 40, (timeout) =>
      Effect.gen(function*() {
        yield* refusesSettings({ connectTimeout: timeout }, /connectTimeout must be/)
        yield* refusesSettings({ commandTimeout: timeout }, /commandTimeout must be/)
      })))

  it.live("refuses numbers out of range", () =>
    Effect.gen(function*() {
      yield* forAll(notWhole(1, 65_535), 40, (port) => refusesSettings({ port }, /port must be/))
      yield* forAll(notWhole(0, 1_000_000), 40, (db) => refusesSettings({ db }, /db must be/))
      yield* forAll(notWhole(0, 10_000), 40, (maxReserved) => refusesSettings({ maxReserved }, /maxReserved must be/))
    }))

  it.live("refuses whatever is no namespace", () =>
    forAll(noName, 40, (namespace) => refusesSettings({ namespace }, /namespace must be/)))

  it.live("refuses an empty host or path, instead of going to the one that is the default", () =>
    Effect.gen(function*() {
      const { port } = new URL(sharedRedisUrl())
      for (const settings of [{ host: "" }, { path: "" }]) {
        const error = yield* Effect.flip(
          Effect.scoped(Layer.build(RedisClient.layer({ port: Number(port), ...settings })))
        )
        assert.deepInclude(error, { _tag: "RedisError", command: "connect", outcome: "NotSent" })
        assert.match(error.detail, /(host|path) must/)
      }
    }))

  it.live("fails with words for a host, a path or a user that cannot be", () =>
    Effect.gen(function*() {
      const { port } = new URL(sharedRedisUrl())
      const odd: ReadonlyArray<RedisSettings> = [
        { host: "a\0b" },
        { host: "\ud800" },
        { path: "a\0b" },
        { path: "/x".repeat(200) },
        { username: "a\0\n", password: Redacted.make("\0") }
      ]
      for (const settings of odd) {
        const error = yield* Effect.flip(
          Effect.scoped(Layer.build(RedisClient.layer({ port: Number(port), ...settings })))
        )
        assert.deepInclude(error, { _tag: "RedisError", command: "connect" })
      }
    }))
})

const Count = RedisScript.make({
  name: "count",
  keys: ["counter"],
  result: Schema.Finite,
  lua: `return redis.call("INCR", counter)`
})

describe("A call of RedisClient", () => {
  it.live("refuses a timeout that is none, and sends nothing", () =>
    Effect.gen(function*() {
      const { key, use } = yield* RedisClient
      // Whoever wants to wait for ever may.
      const finite = noDuration.filter((timeout) =>
        !Option.exists(Duration.fromInput(timeout), (duration) => Duration.toMillis(duration) === Infinity)
      )
      yield* forAll(finite, 40, (timeout) =>
        Effect.gen(function*() {
          const call = Effect.suspend(() => use("incr", (redis) => redis.incr(key("calls")), { timeout }))
          const error = yield* Effect.flip(call)
          assert.deepInclude(error, { _tag: "RedisError", command: "incr", outcome: "NotSent" })
        }))
      assert.isNull(yield* use("get", (redis) => redis.get(key("calls"))))
    }).pipe(Effect.provide(client())))

  it.live("refuses to wait for replicas that make no sense, and sends nothing", () =>
    Effect.gen(function*() {
      const { key, script, use } = yield* RedisClient
      const counter = key("counter")
      const waits = fc.oneof(
        fc.record({ count: notWhole(1, 1000) }),
        fc.record({ count: fc.constant(1), within: outside(0, "61 seconds") })
      )
      yield* forAll(waits, 40, (replicas) =>
        Effect.gen(function*() {
          const error = yield* Effect.flip(script(Count, { counter }, { replicas }))
          assert.deepInclude(error, { _tag: "RedisError", command: "count", outcome: "NotSent" })
        }))
      assert.isNull(yield* use("get", (redis) => redis.get(counter)))
    }).pipe(Effect.provide(client())))
})
