/** What every RateLimiter engine must do. */
import { assert, layer as suite } from "@effect/vitest"
import { Duration, Effect, Fiber, type Layer } from "effect"
import * as RateLimit from "../../src/RateLimit.ts"
import { RateLimiter } from "../../src/RateLimiter.ts"
import type { Elapse } from "../support/elapse.ts"
import { badInput } from "./badInput/rateLimiter.ts"

// Each lets 4 pass at once, and is slow enough that no time seems to pass between two calls of a test.
const algorithms = [
  RateLimit.fixedWindow({ name: "fixed", limit: 4, window: "4 hours" }),
  RateLimit.slidingWindow({ name: "sliding", limit: 4, window: "4 hours" }),
  RateLimit.tokenBucket({ name: "bucket", capacity: 4, refill: 2, per: "2 hours" }),
  RateLimit.gcra({ name: "gcra", limit: 24, period: "1 day", burst: 4 })
] as const

const [fixed, sliding, bucket, gcra] = algorithms

/** What every `RateLimiter` engine must do. `elapse` lets that engine's clock run on. */
export const rateLimiter = <E>(
  engine: string,
  layer: Layer.Layer<RateLimiter, E>,
  elapse: Elapse,
  options?: { readonly excludeTestServices?: boolean }
) =>
  suite(layer, options)(`RateLimiter (${engine})`, (it) => {
    /** Checks until a denial; how many passed, and the denial. */
    const exhaust = (limits: RateLimit.RateLimit | ReadonlyArray<RateLimit.RateLimit>, subject: string, cost = 1) =>
      Effect.gen(function*() {
        const limiter = yield* RateLimiter
        for (let passed = 0;; passed++) {
          const verdict = yield* limiter.check(limits, subject, { cost })
          if (!verdict.allowed) return { passed, verdict }
          assert.isBelow(passed, 1000)
        }
      })

    const hours = (duration: Duration.Duration) => Duration.toMillis(duration) / 3_600_000

    it.effect.each(algorithms)("$name: lets the limit pass, counting down, and denies what is above", (limit) =>
      Effect.gen(function*() {
        const limiter = yield* RateLimiter
        for (const remaining of [3, 2, 1, 0]) {
          const verdict = yield* limiter.check(limit, "count")
          assert.isTrue(verdict.allowed)
          assert.strictEqual(verdict.limit, limit.name)
          assert.strictEqual(verdict.capacity, 4)
          assert.strictEqual(verdict.remaining, remaining)
          assert.isTrue(Duration.isZero(verdict.retryAfter))
        }
        const denied = yield* limiter.check(limit, "count")
        assert.isFalse(denied.allowed)
        assert.isFalse(denied.degraded)
        assert.strictEqual(denied.remaining, 0)
        assert.strictEqual(denied.limits.length, 1)
        assert.isAbove(hours(denied.retryAfter), 0.99)
      }))

    it.effect.each(algorithms)("$name: passes after exactly what retryAfter says", (limit) =>
      Effect.gen(function*() {
        const limiter = yield* RateLimiter
        const { verdict } = yield* exhaust(limit, "retry")
        yield* elapse(Duration.subtract(verdict.retryAfter, Duration.minutes(1)))
        assert.isFalse((yield* limiter.check(limit, "retry")).allowed)
        yield* elapse("1 minute")
        assert.isTrue((yield* limiter.check(limit, "retry")).allowed)
      }))

    it.effect.each(algorithms)("$name: tells when a greater cost will pass, and lets it pass then", (limit) =>
      Effect.gen(function*() {
        const limiter = yield* RateLimiter
        yield* limiter.check(limit, "greater", { cost: 3 })
        const { allowed, remaining, retryAfter } = yield* limiter.check(limit, "greater", { cost: 4 })
        assert.isFalse(allowed)
        assert.strictEqual(remaining, 1)
        yield* elapse(Duration.subtract(retryAfter, Duration.minutes(1)))
        assert.isFalse((yield* limiter.check(limit, "greater", { cost: 4 })).allowed)
        yield* elapse("1 minute")
        assert.isTrue((yield* limiter.check(limit, "greater", { cost: 4 })).allowed)
      }))

    it.effect.each(algorithms)("$name: is as if never used after what resetAfter says", (limit) =>
      Effect.gen(function*() {
        const limiter = yield* RateLimiter
        const { verdict } = yield* exhaust(limit, "unused")
        yield* elapse(verdict.resetAfter)
        const unused = yield* limiter.peek(limit, "unused")
        assert.strictEqual(unused.remaining, 4)
        assert.isTrue(Duration.isZero(unused.resetAfter))
        assert.strictEqual((yield* exhaust(limit, "unused")).passed, 4)
      }))

    it.effect.each(algorithms)("$name: takes a cost at once, or not at all", (limit) =>
      Effect.gen(function*() {
        const limiter = yield* RateLimiter
        assert.strictEqual((yield* limiter.check(limit, "cost", { cost: 3 })).remaining, 1)
        assert.isFalse((yield* limiter.check(limit, "cost", { cost: 2 })).allowed)
        assert.isTrue((yield* limiter.check(limit, "cost", { cost: 1 })).allowed)
        assert.isFalse((yield* limiter.check(limit, "cost", { cost: 0.5 })).allowed)
      }))

    it.effect.each(algorithms)("$name: takes fractions", (limit) =>
      Effect.gen(function*() {
        assert.strictEqual((yield* exhaust(limit, "fraction", 0.5)).passed, 8)
        assert.strictEqual((yield* exhaust(limit, "many", 1.5)).passed, 2)
      }))

    it.effect.each(algorithms)("$name: takes nothing for a peek", (limit) =>
      Effect.gen(function*() {
        const limiter = yield* RateLimiter
        for (let i = 0; i < 6; i++) {
          assert.strictEqual((yield* limiter.peek(limit, "peek")).remaining, 4)
        }
        yield* limiter.check(limit, "peek", { cost: 3 })
        const fits = yield* limiter.peek(limit, "peek")
        assert.isTrue(fits.allowed)
        assert.strictEqual(fits.remaining, 1)
        const tooMuch = yield* limiter.peek(limit, "peek", { cost: 2 })
        assert.isFalse(tooMuch.allowed)
        assert.isAbove(hours(tooMuch.retryAfter), 0.5)
        assert.strictEqual((yield* exhaust(limit, "peek")).passed, 1)
      }))

    it.effect.each(algorithms)("$name: starts anew after a reset", (limit) =>
      Effect.gen(function*() {
        const limiter = yield* RateLimiter
        yield* exhaust(limit, "reset")
        yield* exhaust(limit, "other")
        yield* limiter.reset(limit, "reset")
        assert.strictEqual((yield* exhaust(limit, "reset")).passed, 4)
        assert.strictEqual((yield* exhaust(limit, "other")).passed, 0)
        yield* limiter.reset(limit, "never used")
      }))

    it.effect.each(algorithms)("$name: lets exactly the limit pass when many come at once", (limit) =>
      Effect.gen(function*() {
        const limiter = yield* RateLimiter
        const verdicts = yield* Effect.all(
          Array.from({ length: 50 }, () =>
            limiter.check(limit, "rush")),
          { concurrency: "unbounded" }
        )
        assert.strictEqual(
          verdicts.filter(({ allowed }) =>
            allowed
          ).length,
          4
        )
      }))

    it.effect.each(algorithms)("$name: allows no more than a smaller limit, once it is there", (limit) =>
      Effect.gen(function*() {
        const limiter = yield* RateLimiter
        yield* limiter.check(limit, "smaller", { cost: 4 })
        const smaller: RateLimit.RateLimit = limit.algorithm === "tokenBucket"
          ? { ...limit, capacity: 2 }
          : limit.algorithm === "gcra"
          ? { ...limit, burst: 2 }
          : { ...limit, limit: 2 }
        const { allowed, remaining, resetAfter, retryAfter } = yield* limiter.check(smaller, "smaller")
        assert.isFalse(allowed)
        assert.strictEqual(remaining, 0)
        yield* elapse(retryAfter)
        assert.isTrue((yield* limiter.check(smaller, "smaller")).allowed)
        assert.isAtMost(hours(resetAfter), 8)
      }))

    it.effect("fixed: opens a window with the first call, and takes all that is left until it closes", () =>
      Effect.gen(function*() {
        const limiter = yield* RateLimiter
        yield* limiter.check(fixed, "window")
        yield* elapse("239 minutes")
        assert.strictEqual((yield* exhaust(fixed, "window")).passed, 3)
        yield* elapse("1 minute")
        assert.strictEqual((yield* exhaust(fixed, "window")).passed, 4)
      }))

    it.effect("sliding: counts the last window for the part of it that is still within reach", () =>
      Effect.gen(function*() {
        const limiter = yield* RateLimiter
        yield* limiter.check(sliding, "slide", { cost: 4 })
        // Half an hour into the next window 3.5 of the 4 count, an hour later 2.5.
        yield* elapse("270 minutes")
        assert.strictEqual((yield* exhaust(sliding, "slide")).passed, 0)
        yield* elapse("1 hour")
        assert.strictEqual((yield* exhaust(sliding, "slide")).passed, 1)
      }))

    it.effect("bucket: refills evenly, up to its capacity", () =>
      Effect.gen(function*() {
        yield* exhaust(bucket, "refill")
        yield* elapse("2 hours")
        assert.strictEqual((yield* exhaust(bucket, "refill")).passed, 2)
        yield* elapse("1 day")
        assert.strictEqual((yield* exhaust(bucket, "refill")).passed, 4)
      }))

    it.effect("gcra: spaces evenly after a burst", () =>
      Effect.gen(function*() {
        const limiter = yield* RateLimiter
        assert.strictEqual((yield* exhaust(gcra, "space")).passed, 4)
        for (let i = 0; i < 3; i++) {
          yield* elapse("1 hour")
          assert.isTrue((yield* limiter.check(gcra, "space")).allowed)
          assert.isFalse((yield* limiter.check(gcra, "space")).allowed)
        }
        const even = RateLimit.gcra({ name: "even", limit: 1, period: "1 hour" })
        assert.strictEqual((yield* exhaust(even, "space")).passed, 1)
      }))

    it.effect("takes from all limits or from none, and names the one that binds longest", () =>
      Effect.gen(function*() {
        const limiter = yield* RateLimiter
        const short = RateLimit.tokenBucket({ name: "short", capacity: 3, refill: 1, per: "1 hour" })
        const long = RateLimit.fixedWindow({ name: "long", limit: 5, window: "1 day" })
        const both = [short, long]
        const first = yield* limiter.check(both, "both", { cost: 2 })
        assert.isTrue(first.allowed)
        assert.strictEqual(first.limit, "short")
        assert.strictEqual(first.remaining, 1)
        assert.deepStrictEqual(first.limits.map(({ limit, remaining }) => [limit, remaining]), [
          ["short", 1],
          ["long", 3]
        ])
        const second = yield* limiter.check(both, "both", { cost: 2 })
        assert.isFalse(second.allowed)
        assert.strictEqual(second.limit, "short")
        assert.deepStrictEqual(
          second.limits.map(({ allowed }) =>
            allowed
          ),
          [false, true]
        )
        assert.strictEqual((yield* limiter.peek(long, "both")).remaining, 3)

        yield* elapse("2 hours")
        assert.isTrue((yield* limiter.check(both, "both", { cost: 3 })).allowed)
        const third = yield* limiter.check(both, "both", { cost: 1 })
        assert.strictEqual(third.limit, "long")
        assert.deepStrictEqual(
          third.limits.map(({ allowed }) =>
            allowed
          ),
          [false, false]
        )
        yield* elapse(third.retryAfter)
        assert.isTrue((yield* limiter.check(both, "both", { cost: 1 })).allowed)
        assert.strictEqual((yield* limiter.peek(short, "both")).remaining, 2)
      }))

    it.effect("decides on limits of all algorithms at once", () =>
      Effect.gen(function*() {
        const limiter = yield* RateLimiter
        yield* limiter.check(gcra, "mixed", { cost: 2 })
        assert.strictEqual((yield* exhaust(algorithms, "mixed")).passed, 2)
        for (const { limit, remaining } of (yield* limiter.peek(algorithms, "mixed")).limits) {
          assert.strictEqual(remaining, limit === "gcra" ? 0 : 2)
        }
        yield* limiter.reset(algorithms, "mixed")
        assert.strictEqual((yield* exhaust(algorithms, "mixed")).passed, 4)
      }))

    it.effect("decides on 16 limits at once", () =>
      Effect.gen(function*() {
        const limiter = yield* RateLimiter
        const limits = Array.from({ length: 16 }, (_, i) => ({ ...algorithms[i % 4]!, name: `limit ${i}` }))
        const { verdict } = yield* exhaust(limits, "many limits")
        assert.deepStrictEqual(
          verdict.limits.map(({ limit }) =>
            limit
          ),
          limits.map(({ name }) =>
            name
          )
        )
        assert.strictEqual((yield* limiter.peek(limits, "many limits")).remaining, 0)
      }))

    it.effect("keeps subjects and limits apart, whatever characters they hold", () =>
      Effect.gen(function*() {
        const names = ["a", "a:b", "{a}", "}", "a b", "a\nb", "%", "*", "ä", "b:f"]
        for (const name of names) {
          const limit = RateLimit.fixedWindow({ name, limit: 1, window: "1 hour" })
          for (const subject of names) {
            assert.strictEqual((yield* exhaust(limit, `odd ${subject}`)).passed, 1)
          }
          assert.strictEqual((yield* exhaust(limit, name)).passed, 1)
        }
        const limiter = yield* RateLimiter
        assert.isFalse(
          (yield* limiter.check(RateLimit.fixedWindow({ name: "a", limit: 1, window: "1 hour" }), "a")).allowed
        )
      }))

    it.effect("counts anew when a limit changes its algorithm", () =>
      Effect.gen(function*() {
        yield* exhaust({ ...fixed, name: "changed" }, "algorithm")
        assert.strictEqual((yield* exhaust({ ...bucket, name: "changed" }, "algorithm")).passed, 4)
        assert.strictEqual((yield* exhaust({ ...sliding, name: "changed" }, "algorithm")).passed, 4)
        assert.strictEqual((yield* exhaust({ ...fixed, name: "changed" }, "algorithm")).passed, 0)
      }))

    it.effect("counts a shared limit apart from one that is not", () =>
      Effect.gen(function*() {
        const shared = { ...fixed, shared: true }
        const limiter = yield* RateLimiter
        const subject = `shared ${crypto.randomUUID()}`
        yield* limiter.check(shared, subject, { cost: 3 })
        assert.strictEqual((yield* limiter.check([shared, bucket], subject)).remaining, 0)
        assert.strictEqual((yield* exhaust(fixed, subject)).passed, 4)
        assert.strictEqual((yield* limiter.peek(bucket, subject)).remaining, 3)
        yield* limiter.reset(shared, subject)
        assert.strictEqual((yield* exhaust(shared, subject)).passed, 4)
      }))

    it.effect("refuses what makes no sense", () =>
      Effect.gen(function*() {
        const limiter = yield* RateLimiter
        for (const cost of [0, -1, Number.NaN, Infinity]) {
          const error = yield* Effect.flip(limiter.check(fixed, "s", { cost }))
          assert.strictEqual(error._tag, "InvalidInput")
        }
        for (const subject of ["", "\ud800", "x".repeat(600)]) {
          assert.strictEqual((yield* Effect.flip(limiter.peek(fixed, subject)))._tag, "InvalidInput")
          assert.strictEqual((yield* Effect.flip(limiter.reset(fixed, subject)))._tag, "InvalidInput")
        }
        const wrong: ReadonlyArray<RateLimit.RateLimit | ReadonlyArray<RateLimit.RateLimit>> = [
          [],
          [fixed, { ...gcra, name: fixed.name }],
          Array.from({ length: 17 }, (_, i) => ({ ...fixed, name: `${i}` })),
          { ...fixed, name: "" },
          { ...fixed, limit: 0 },
          { ...fixed, limit: Number.NaN },
          { ...fixed, limit: 1e10 },
          { ...fixed, window: 0 },
          { ...fixed, window: "-1 seconds" },
          { ...fixed, window: Infinity },
          { ...fixed, window: "500 days" },
          { ...sliding, window: Number.NaN },
          { ...bucket, capacity: -1 },
          { ...bucket, refill: 0 },
          { ...gcra, burst: 0 },
          { ...gcra, period: -5 }
        ]
        for (const limits of wrong) {
          assert.strictEqual((yield* Effect.flip(limiter.check(limits, "s")))._tag, "InvalidInput")
        }
        const run = Effect.flip(limiter.limit(fixed, "s", { wait: -1 })(Effect.void))
        assert.strictEqual((yield* run)._tag, "InvalidInput")
        assert.strictEqual((yield* limiter.peek(fixed, "s")).remaining, 4)
      }))

    it.effect("says of a cost above the limit that it never passes", () =>
      Effect.gen(function*() {
        const limiter = yield* RateLimiter
        const small = RateLimit.gcra({ name: "small", limit: 1000, period: "1 second", burst: 2 })
        const error = yield* Effect.flip(limiter.check([fixed, small], "above", { cost: 3 }))
        assert.deepInclude(error, { _tag: "CostAboveLimit", limit: "small", capacity: 2, cost: 3 })
        const waiting = limiter.limit(small, "above", { cost: 3, wait: "1 hour" })(Effect.void)
        assert.strictEqual((yield* Effect.flip(waiting))._tag, "CostAboveLimit")
        assert.strictEqual((yield* limiter.peek(fixed, "above")).remaining, 4)
      }))

    it.effect("limit: runs an effect that passes, and hands on what becomes of it", () =>
      Effect.gen(function*() {
        const limiter = yield* RateLimiter
        const limited = limiter.limit(fixed, "run", { cost: 2 })
        assert.strictEqual(yield* limited(Effect.succeed("done")), "done")
        assert.strictEqual(yield* Effect.flip(limited(Effect.fail("failed" as const))), "failed")
        assert.strictEqual((yield* limiter.peek(fixed, "run")).remaining, 0)
      }))

    it.effect("limit: fails without running the effect, and tells when to come again", () =>
      Effect.gen(function*() {
        const limiter = yield* RateLimiter
        yield* exhaust([fixed, bucket], "fail")
        let ran = false
        const effect = Effect.sync(() => {
          ran = true
        })
        const error = yield* Effect.flip(limiter.limit([fixed, bucket], "fail")(effect))
        if (error._tag !== "RateLimited") {
          return assert.fail(error._tag)
        }
        assert.deepInclude(error, { limit: "fixed", capacity: 4, remaining: 0, degraded: false })
        assert.isAbove(hours(error.retryAfter), 3.9)
        assert.isAbove(hours(error.resetAfter), 3.9)
        // It knows at once that a minute is not enough.
        const late = yield* Effect.flip(limiter.limit([fixed, bucket], "fail", { wait: "1 minute" })(effect))
        assert.strictEqual(late._tag, "RateLimited")
        assert.isFalse(ran)
      }))

    it.effect("limit: waits for its turn", () =>
      Effect.gen(function*() {
        const limiter = yield* RateLimiter
        const brief = RateLimit.fixedWindow({ name: "brief", limit: 1, window: "80 millis" })
        yield* limiter.check(brief, "wait")
        const waiting = yield* Effect.forkChild(
          limiter.limit(brief, "wait", { wait: "1 minute" })(Effect.succeed("done")),
          { startImmediately: true }
        )
        yield* elapse("80 millis")
        assert.strictEqual(yield* Fiber.join(waiting), "done")
      }))

    it.effect("limit: lets those who wait pass in the order in which they came", () =>
      Effect.gen(function*() {
        const limiter = yield* RateLimiter
        const steady = RateLimit.gcra({ name: "steady", limit: 1, period: "20 millis" })
        yield* limiter.check(steady, "order")
        const order: Array<number> = []
        const fibers = yield* Effect.forEach([1, 2, 3, 4], (i) =>
          Effect.forkChild(
            limiter.limit(steady, "order", { wait: "1 minute" })(Effect.sync(() =>
              order.push(i)
            )),
            { startImmediately: true }
          ))
        for (let i = 0; i < 4; i++) {
          yield* elapse("20 millis")
        }
        yield* Fiber.joinAll(fibers)
        assert.deepStrictEqual(order, [1, 2, 3, 4])
      }))

    it.effect("limit: lets nobody overtake one who waits for more", () =>
      Effect.gen(function*() {
        const limiter = yield* RateLimiter
        const steady = RateLimit.gcra({ name: "steady", limit: 1, period: "40 millis", burst: 2 })
        yield* limiter.check(steady, "overtake", { cost: 2 })
        const order: Array<number> = []
        const wait = (cost: number) =>
          Effect.forkChild(
            limiter.limit(steady, "overtake", { cost, wait: "1 minute" })(Effect.sync(() =>
              order.push(cost)
            )),
            { startImmediately: true }
          )
        const first = yield* wait(2)
        // By the time of this answer the first has had its own, and waits.
        yield* limiter.peek(steady, "overtake")
        yield* elapse("40 millis")
        const second = yield* wait(1)
        yield* elapse("40 millis")
        yield* Fiber.join(first)
        yield* elapse("40 millis")
        yield* Fiber.join(second)
        assert.deepStrictEqual(order, [2, 1])
      }))

    it.effect("limit: waits no longer than it may, also behind others", () =>
      Effect.gen(function*() {
        const limiter = yield* RateLimiter
        const slow = RateLimit.gcra({ name: "slow", limit: 1, period: "1 hour" })
        yield* limiter.check(slow, "bounded")
        const patient = yield* Effect.forkChild(
          limiter.limit(slow, "bounded", { wait: "2 hours" })(Effect.void),
          { startImmediately: true }
        )
        const hasty = yield* Effect.forkChild(
          Effect.flip(limiter.limit(slow, "bounded", { wait: "30 millis" })(Effect.void)),
          { startImmediately: true }
        )
        yield* elapse("30 millis")
        assert.strictEqual((yield* Fiber.join(hasty))._tag, "RateLimited")
        yield* Fiber.interrupt(patient)
      }))

    it.effect("limit: takes nothing when it is interrupted while it waits, and lets the next one go on", () =>
      Effect.gen(function*() {
        const limiter = yield* RateLimiter
        const brief = RateLimit.fixedWindow({ name: "brief", limit: 1, window: "60 millis" })
        yield* limiter.check(brief, "interrupt")
        const wait = limiter.limit(brief, "interrupt", { wait: "1 minute" })
        const first = yield* Effect.forkChild(wait(Effect.succeed(1)), { startImmediately: true })
        const second = yield* Effect.forkChild(wait(Effect.succeed(2)), { startImmediately: true })
        const third = yield* Effect.forkChild(wait(Effect.succeed(3)), { startImmediately: true })
        yield* Fiber.interrupt(second)
        yield* Fiber.interrupt(first)
        yield* elapse("60 millis")
        assert.strictEqual(yield* Fiber.join(third), 3)
      }))

    badInput(it)
  })
