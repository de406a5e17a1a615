/** RateLimiter: its contract on both engines, that the engines agree, and what is true on Redis only. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Layer, Option } from "effect"
import { TestClock } from "effect/testing"
import * as fc from "fast-check"
import { ServerClock } from "../src/internal/serverClock.ts"
import * as RateLimit from "../src/RateLimit.ts"
import { RateLimiter, type RateLimiterOptions } from "../src/RateLimiter.ts"
import { RedisClient } from "../src/RedisClient.ts"
import { rateLimiter } from "./contract/rateLimiter.ts"
import { sharedRedisUrl, uniqueNamespace } from "./support/sharedRedis.ts"

/** A server's time that tests move. */
const movable = () => {
  const clock = { offsetMillis: 0 }
  return {
    layer: Layer.succeed(ServerClock, clock),
    elapse: (duration: Duration.Input) =>
      Effect.sync(() => {
        clock.offsetMillis += Duration.toMillis(duration)
      })
  }
}

const client = (namespace = uniqueNamespace()) =>
  Layer.suspend(() => RedisClient.layer({ url: sharedRedisUrl(), namespace }))

const onRedis = (time = movable(), namespace?: string, options?: RateLimiterOptions) =>
  RateLimiter.layer(options).pipe(Layer.provideMerge(client(namespace)), Layer.provide(time.layer))

rateLimiter("memory", RateLimiter.layerMemory, TestClock.adjust)

const contractTime = movable()
rateLimiter("redis", onRedis(contractTime), contractTime.elapse, { excludeTestServices: true })

const algorithms = [
  RateLimit.fixedWindow({ name: "fixed", limit: 4, window: "4 hours" }),
  RateLimit.slidingWindow({ name: "sliding", limit: 4, window: "4 hours" }),
  RateLimit.tokenBucket({ name: "bucket", capacity: 4, refill: 1, per: "1 hour" }),
  RateLimit.gcra({ name: "gcra", limit: 1, period: "1 hour", burst: 4 })
] as const

const keysOf = (namespace: string) =>
  Effect.flatMap(RedisClient, ({ use }) => use("keys", (redis) => redis.keys(`${namespace}:*`)))

describe("RateLimiter on Redis", () => {
  it.live("tells when it is built which of its options is out of range", () =>
    Effect.gen(function*() {
      const cases: ReadonlyArray<readonly [RateLimiterOptions, string]> = [
        [{ timeout: 0 }, "rate limiter timeout"],
        [{ timeout: "2 hours" }, "rate limiter timeout"],
        [{ onUnavailable: { local: 0 } }, "local share"],
        [{ onUnavailable: { local: NaN } }, "local share"]
      ]
      for (const [options, input] of cases) {
        const built = Layer.build(Layer.provide(RateLimiter.layer(options), client()))
        assert.deepInclude(yield* Effect.flip(Effect.scoped(built)), { _tag: "InvalidInput", input })
      }
    }))

  it.live("keeps one key for each limit, all of a subject in one slot, and each with an end", () =>
    Effect.gen(function*() {
      const { namespace, use } = yield* RedisClient
      const limiter = yield* RateLimiter
      const limits = [...algorithms, RateLimit.fixedWindow({ name: "per hour", limit: 9, window: "1 hour" })]
      yield* limiter.check(limits, "client:1")
      const keys = yield* keysOf(namespace)
      assert.sameMembers(keys, [
        `${namespace}:limit:{client%3A1}:fixed:f`,
        `${namespace}:limit:{client%3A1}:sliding:s`,
        `${namespace}:limit:{client%3A1}:bucket:b`,
        `${namespace}:limit:{client%3A1}:gcra:b`,
        `${namespace}:limit:{client%3A1}:per%20hour:f`
      ])
      for (const key of keys) {
        const hours = (yield* use("pttl", (redis) => redis.pttl(key))) / 3_600_000
        const matters = key.includes("sliding") ? 8 : key.includes("hour") ? 1 : 4
        assert.isAbove(hours, matters)
        assert.isBelow(hours, matters + 0.01)
      }
      yield* limiter.reset(limits, "client:1")
      assert.deepStrictEqual(yield* keysOf(namespace), [])
    }).pipe(Effect.provide(onRedis())))

  it.live("writes nothing for a peek or a denial", () =>
    Effect.gen(function*() {
      const { namespace, use } = yield* RedisClient
      const limiter = yield* RateLimiter
      yield* limiter.peek(algorithms, "s")
      assert.deepStrictEqual(yield* keysOf(namespace), [])
      yield* limiter.check(algorithms[0], "s", { cost: 4 })
      yield* limiter.check(algorithms, "s")
      const [key] = yield* keysOf(namespace)
      assert.lengthOf(yield* keysOf(namespace), 1)
      yield* use("pexpire", (redis) => redis.pexpire(key!, 3_000_000))
      yield* limiter.check(algorithms, "s")
      assert.isAtMost(yield* use("pttl", (redis) => redis.pttl(key!)), 3_000_000)
    }).pipe(Effect.provide(onRedis())))

  it.live("counts exactly across clients", () =>
    Effect.gen(function*() {
      const namespace = uniqueNamespace()
      const limits = algorithms.map((limit) => ({
        ...limit,
        name: `${limit.name}-wide`,
        limit: 37,
        capacity: 37,
        burst: 37
      }))
      const rush = Effect.gen(function*() {
        const limiter = yield* RateLimiter
        const verdicts = yield* Effect.all(
          Array.from({ length: 200 }, () => limiter.check(limits, "all")),
          { concurrency: "unbounded" }
        )
        return verdicts.filter(({ allowed }) => allowed).length
      }).pipe(Effect.provide(Layer.fresh(onRedis(movable(), namespace))))
      const passed = yield* Effect.all([rush, rush], { concurrency: 2 })
      assert.strictEqual(passed[0] + passed[1], 37)
    }))

  it.live("counts what is shared across namespaces", () =>
    Effect.gen(function*() {
      const limit = RateLimit.fixedWindow({ name: "shared", limit: 2, window: "1 hour", shared: true })
      const subject = uniqueNamespace()
      const check = Effect.flatMap(RateLimiter, (limiter) => limiter.check(limit, subject))
      const remaining = []
      for (let i = 0; i < 3; i++) {
        const { allowed, remaining: left } = yield* Effect.provide(
          check,
          Layer.fresh(onRedis(movable(), uniqueNamespace()))
        )
        remaining.push(allowed ? left : "denied")
      }
      assert.deepStrictEqual(remaining, [1, 0, "denied"])
    }))

  it.live("goes on after SCRIPT FLUSH", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter
      const { use } = yield* RedisClient
      for (const remaining of [3, 2, 1]) {
        assert.strictEqual((yield* limiter.check(algorithms, "flush")).remaining, remaining)
        yield* use("script", (redis) => redis.script("FLUSH"))
      }
      assert.strictEqual((yield* limiter.peek(algorithms, "flush")).remaining, 1)
    }).pipe(Effect.provide(onRedis())))

  it.live("gives nothing away when the server's clock goes back, and does not wait until it is where it was", () => {
    const time = movable()
    return Effect.gen(function*() {
      const limiter = yield* RateLimiter
      for (const limit of algorithms) {
        yield* limiter.check(limit, "back", { cost: 4 })
        yield* time.elapse("-10 days")
        const denied = yield* limiter.check(limit, "back")
        assert.isFalse(denied.allowed)
        assert.isAtMost(Duration.toMillis(denied.retryAfter), 8 * 3_600_000)
        assert.isFalse((yield* limiter.peek(limit, "back")).allowed)
        yield* time.elapse(denied.retryAfter)
        assert.isTrue((yield* limiter.check(limit, "back")).allowed)

        yield* limiter.check(limit, "part", { cost: 2 })
        yield* time.elapse("-1 days")
        assert.isFalse((yield* limiter.check(limit, "part", { cost: 3 })).allowed)
        assert.isTrue((yield* limiter.check(limit, "part", { cost: 2 })).allowed)
      }
    }).pipe(Effect.provide(onRedis(time)))
  })

  it.live("takes what it cannot read for unused, and fails on another type", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter
      const { key, use } = yield* RedisClient
      const place = key("limit", "{odd}", "fixed", "f")
      for (const text of ["", "hello", "1 2 3"]) {
        yield* use("set", (redis) => redis.set(place, text))
        assert.strictEqual((yield* limiter.peek(algorithms[0], "odd")).remaining, 4)
        assert.strictEqual((yield* limiter.check(algorithms[0], "odd")).remaining, 3)
      }
      yield* use("del", (redis) => redis.del(place))
      yield* use("lpush", (redis) => redis.lpush(place, "x"))
      const error = yield* Effect.flip(limiter.check(algorithms[0], "odd", { onUnavailable: "allow" }))
      assert.deepInclude(error, { _tag: "RedisError", reason: "wrong-type" })
    }).pipe(Effect.provide(onRedis())))
})

/** A clock that stands where the test puts it. */
const standing = () => {
  let nanos = 0n
  const clock: Clock.Clock = Object.create(Clock.Clock.defaultValue())
  clock.monotonicTimeNanosUnsafe = () => nanos
  const moveTo = (micros: number) => {
    nanos = BigInt(micros) * 1000n
  }
  return { clock, moveTo }
}

const cost = fc.oneof({ weight: 3, arbitrary: fc.constant(1) }, fc.constantFrom(0.1, 0.5, 1 / 3, 2, 2.7, 7))
const amount = fc.oneof(fc.integer({ min: 1, max: 6 }), fc.constantFrom(0.4, 4 / 3, 2.7))
const period = fc.constantFrom("1 second", "7 seconds", "1 minute", "333 millis")
const anyLimit: fc.Arbitrary<RateLimit.RateLimit> = fc.oneof(
  fc.record({ limit: amount, window: period }).map((options) => RateLimit.fixedWindow({ name: "one", ...options })),
  fc.record({ limit: amount, window: period }).map((options) => RateLimit.slidingWindow({ name: "two", ...options })),
  fc.record({ capacity: amount, refill: amount, per: period })
    .map((options) => RateLimit.tokenBucket({ name: "three", ...options })),
  fc.record({ limit: amount, period, burst: amount }).map((options) => RateLimit.gcra({ name: "four", ...options }))
)
const pause = fc.oneof(fc.constant(0), fc.nat(500), fc.nat(70_000))

/** Redis' time goes on by itself, so memory is shown the very time at which Redis has decided. */
const observed = (onTime: (micros: number) => void, time: ReturnType<typeof movable>) =>
  Layer.effect(
    RedisClient,
    Effect.map(RedisClient, (client) => {
      const script: typeof client.script = (script, values, options) =>
        Effect.tap(client.script(script, values, options), (reply) =>
          Effect.sync(() => {
            assert(Array.isArray(reply))
            onTime(reply[1])
          }))
      return RedisClient.of({ ...client, script })
    })
  ).pipe(Layer.provide(client()), Layer.provide(time.layer))

describe("RateLimiter, whatever comes", () => {
  it.live("memory and Redis agree, step by step", () => {
    const time = movable()
    const { clock, moveTo } = standing()
    const pool = fc.uniqueArray(anyLimit, { minLength: 2, maxLength: 4, selector: ({ name }) => name })
    const step = fc.record({
      ask: fc.constantFrom("check" as const, "check" as const, "check" as const, "peek" as const, "reset" as const),
      chosen: fc.subarray([0, 1, 2, 3], { minLength: 1 }),
      // Now and then a limit is configured otherwise than before.
      other: fc.option(anyLimit, { freq: 10 }),
      subject: fc.constantFrom("a", "{b}"),
      cost,
      pause
    })
    return Effect.gen(function*() {
      const redis = yield* RateLimiter
      const runPromise = Effect.runPromiseWith(yield* Effect.context())
      const memory = yield* Effect.provide(RateLimiter, Layer.fresh(RateLimiter.layerMemory))
      let run = 0
      let [allowed, denied] = [0, 0]
      const property = fc.asyncProperty(pool, fc.array(step, { minLength: 5, maxLength: 40 }), async (pool, steps) => {
        run++
        for (const { ask, chosen, cost, other, pause, subject } of steps) {
          const limits = pool.filter((_, i) => chosen.includes(i))
            .map((limit) => other?.name === limit.name ? other : limit)
          const asked = (limiter: typeof redis) =>
            Effect.result<unknown, unknown, never>(
              ask === "reset"
                ? limiter.reset(limits, `${subject}${run}`)
                : Effect.tap(limiter[ask](limits, `${subject}${run}`, { cost }), ({ allowed: passed }) =>
                  Effect.sync(() => passed ? allowed++ : denied++))
            )
          const [onRedis, inMemory] = await runPromise(Effect.gen(function*() {
            yield* time.elapse(pause)
            return [yield* asked(redis), yield* Effect.provideService(asked(memory), Clock.Clock, clock)]
          }))
          assert.deepStrictEqual(inMemory, onRedis)
        }
      })
      yield* Effect.promise(() => fc.assert(property, { numRuns: 150 }))
      assert.isAbove(Math.min(allowed, denied), 50)
    }).pipe(Effect.provide(Layer.provide(RateLimiter.layer(), observed(moveTo, time))))
  })

  const calls = fc.array(fc.tuple(pause, cost), { minLength: 1, maxLength: 60 })

  /** Runs `test` on a limiter of its own, at times of its own. */
  const inMemory = (
    test: (limiter: RateLimiter["Service"], moveTo: (millis: number) => void) => Effect.Effect<void, unknown>
  ) => {
    const { clock, moveTo } = standing()
    Effect.runSync(
      Effect.flatMap(RateLimiter, (limiter) => test(limiter, (millis) => moveTo(millis * 1000))).pipe(
        Effect.provide(Layer.fresh(RateLimiter.layerMemory)),
        Effect.provideService(Clock.Clock, clock)
      )
    )
  }

  it("never passes more than a limit promises", () => {
    const property = fc.property(
      anyLimit,
      calls,
      (limit, calls) =>
        inMemory((limiter, moveTo) =>
          Effect.gen(function*() {
            const passed: Array<{ readonly at: number; readonly cost: number }> = []
            let millis = 0
            for (const [pause, cost] of calls) {
              moveTo(millis += pause)
              const verdict = yield* Effect.option(limiter.check(limit, "s", { cost }))
              if (Option.isSome(verdict) && verdict.value.allowed) passed.push({ at: millis, cost })
            }
            for (const [i, first] of passed.entries()) {
              let sum = 0
              for (const { at, cost } of passed.slice(i)) {
                sum += cost
                assert.isAtMost(sum, mostWithin(limit, at - first.at) + 1e-6)
              }
            }
          })
        )
    )
    fc.assert(property, { numRuns: 500 })
  })

  it("passes after exactly what retryAfter says, and no sooner", () => {
    const property = fc.property(
      anyLimit,
      calls,
      (limit, calls) =>
        inMemory((limiter, moveTo) =>
          Effect.gen(function*() {
            let millis = 0
            for (const [pause, cost] of calls) {
              moveTo(millis += pause)
              const verdict = yield* Effect.option(limiter.check(limit, "s", { cost }))
              if (Option.isNone(verdict) || verdict.value.allowed) continue
              const wait = Duration.toMillis(verdict.value.retryAfter)
              // Or as long before as a millionth of a call takes to come back: states are reported in millionths.
              const before = Math.ceil(1 + millionthMillis(limit))
              if (wait >= before) {
                moveTo(millis + wait - before)
                assert.isFalse((yield* limiter.peek(limit, "s", { cost })).allowed)
              }
              moveTo(millis += wait)
              assert.isTrue((yield* limiter.check(limit, "s", { cost })).allowed)
            }
          })
        )
    )
    fc.assert(property, { numRuns: 500 })
  })
})

const millionthMillis = (limit: RateLimit.RateLimit): number => {
  switch (limit.algorithm) {
    case "tokenBucket":
      return Duration.toMillis(limit.per) / limit.refill / 1e6
    case "gcra":
      return Duration.toMillis(limit.period) / limit.limit / 1e6
    default:
      return Duration.toMillis(limit.window) / limit.limit / 1e6
  }
}

/** What may pass in a stretch of time that begins with a call that passed. */
const mostWithin = (limit: RateLimit.RateLimit, millis: number): number => {
  switch (limit.algorithm) {
    case "tokenBucket":
      return limit.capacity + limit.refill * millis / Duration.toMillis(limit.per)
    case "gcra":
      return (limit.burst ?? 1) + limit.limit * millis / Duration.toMillis(limit.period)
    default:
      // Windows that the stretch may touch.
      return limit.limit * (Math.floor(millis / Duration.toMillis(limit.window)) + 2)
  }
}
