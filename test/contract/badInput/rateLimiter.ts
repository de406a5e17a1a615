/** The contract of RateLimiter: what is refused, and what comes through as it is. */
import { assert, type Vitest } from "@effect/vitest"
import { type Duration, Effect } from "effect"
import * as fc from "fast-check"
import * as RateLimit from "../../../src/RateLimit.ts"
import { RateLimiter } from "../../../src/RateLimiter.ts"
import { differentNames, forAll, noDuration, noName, refuses } from "./support.ts"

const day = RateLimit.fixedWindow({ name: "day", limit: 4, window: "1 day" })

/** What is no amount that anything could count. */
const noAmount = fc.oneof(
  fc.constantFrom(NaN, 0, -0, -1, -Number.MIN_VALUE, Infinity, -Infinity, 1e9 + 1, 1e300),
  fc.double({ max: 0, noNaN: true })
)

const noPeriod = fc.oneof(noDuration, fc.constantFrom<Duration.Input>(0, "401 days", 1e300))

/** Limits that are what they should be but for one number. */
const badLimits: fc.Arbitrary<readonly [RateLimit.RateLimit, input: string]> = fc.oneof(
  noAmount.map((amount): RateLimit.RateLimit => RateLimit.fixedWindow({ name: "x", limit: amount, window: 1 })),
  noAmount.map((amount): RateLimit.RateLimit => RateLimit.slidingWindow({ name: "x", limit: amount, window: 1 })),
  noAmount.map((amount): RateLimit.RateLimit =>
    RateLimit.tokenBucket({ name: "x", capacity: amount, refill: 1, per: 1 })
  ),
  noAmount.map((amount): RateLimit.RateLimit =>
    RateLimit.tokenBucket({ name: "x", capacity: 1, refill: amount, per: 1 })
  ),
  noAmount.map((amount): RateLimit.RateLimit => RateLimit.gcra({ name: "x", limit: amount, period: 1 })),
  noAmount.map((amount): RateLimit.RateLimit => RateLimit.gcra({ name: "x", limit: 1, period: 1, burst: amount })),
  // They would take longer to refill than any key can stay.
  fc.constantFrom<RateLimit.RateLimit>(
    RateLimit.tokenBucket({ name: "x", capacity: 1e9, refill: 1e-9, per: "400 days" }),
    RateLimit.tokenBucket({ name: "x", capacity: 1e9, refill: Number.MIN_VALUE, per: "400 days" }),
    RateLimit.tokenBucket({ name: "x", capacity: 100, refill: 1, per: "366 days" }),
    RateLimit.gcra({ name: "x", limit: 1e-9, period: "400 days" })
  )
).map((limit) => [limit, "limits"] as const)

const badPeriods: fc.Arbitrary<readonly [RateLimit.RateLimit, input: string]> = noPeriod.chain((period) =>
  fc.constantFrom<RateLimit.RateLimit>(
    RateLimit.fixedWindow({ name: "x", limit: 1, window: period }),
    RateLimit.slidingWindow({ name: "x", limit: 1, window: period }),
    RateLimit.tokenBucket({ name: "x", capacity: 1, refill: 1, per: period }),
    RateLimit.gcra({ name: "x", limit: 1, period })
  )
).map((limit) => [limit, "period of limit x"] as const)

export const badInput = (it: Vitest.MethodsNonLive<RateLimiter>): void => {
  it.effect("refuses whatever is no subject or no limit's name", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter
      yield* forAll(noName, 60, (name) =>
        Effect.gen(function*() {
          yield* refuses("rate limit subject", limiter.check(day, name), name)
          yield* refuses("rate limit subject", limiter.peek(day, name), name)
          yield* refuses("rate limit subject", limiter.reset(day, name), name)
          yield* refuses("rate limit subject", limiter.limit(day, name)(Effect.void), name)
          yield* refuses("limit name", limiter.check({ ...day, name }, "s"), name)
          yield* refuses("limit name", limiter.check([day, { ...day, name }], "s"), name)
          yield* refuses("limit name", limiter.reset({ ...day, name }, "s"), name)
        }))
    }))

  it.effect("refuses whatever is no limit, cost or wait, and counts nothing", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter
      yield* forAll(fc.oneof(badLimits, badPeriods), 200, ([limit, input]) =>
        Effect.gen(function*() {
          yield* refuses(input, limiter.check(limit, "bad"), limit)
          yield* refuses(input, limiter.check([day, limit], "bad"), limit)
        }))
      const noCost = fc.oneof(
        fc.constantFrom(NaN, 0, -0, -1, Infinity, -Infinity),
        fc.double({ max: 0, noNaN: true })
      )
      yield* forAll(noCost, 60, (cost) =>
        Effect.gen(function*() {
          yield* refuses("cost", limiter.check(day, "bad", { cost }), cost)
          yield* refuses("cost", limiter.peek(day, "bad", { cost }), cost)
          yield* refuses("cost", limiter.limit(day, "bad", { cost })(Effect.void), cost)
        }))
      yield* forAll(fc.oneof(noDuration, fc.constantFrom<Duration.Input>("25 hours", 1e300)), 60, (wait) =>
        refuses("wait", limiter.limit(day, "bad", { wait })(Effect.die("it ran")), wait))
      for (const local of [NaN, 0, -1, 1.01, Infinity]) {
        yield* refuses("local share", limiter.check(day, "bad", { onUnavailable: { local } }), local)
      }
      yield* refuses("limits", limiter.check([], "bad"))
      assert.strictEqual((yield* limiter.peek(day, "bad")).remaining, 4)
    }))

  it.effect("counts with the smallest, largest and slowest numbers that it takes", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter
      const ends = [
        RateLimit.fixedWindow({ name: "f", limit: 1e9, window: "400 days" }),
        RateLimit.slidingWindow({ name: "s", limit: 1e9, window: "400 days" }),
        RateLimit.tokenBucket({ name: "b", capacity: 1e9, refill: 1e9 / 91, per: "400 days" }),
        RateLimit.gcra({ name: "g", limit: 1 / 91, period: "400 days" })
      ]
      for (const limit of ends) {
        const subject = `ends ${limit.name}`
        const { capacity } = yield* limiter.peek(limit, subject)
        assert.isTrue((yield* limiter.check(limit, subject, { cost: Number.MIN_VALUE })).allowed)
        yield* limiter.reset(limit, subject)
        assert.isTrue((yield* limiter.check(limit, subject, { cost: capacity })).allowed)
        assert.include(yield* limiter.check(limit, subject, { cost: capacity }), { allowed: false, remaining: 0 })
        assert.strictEqual((yield* Effect.flip(limiter.check(limit, subject, { cost: 1e300 })))._tag, "CostAboveLimit")
      }
    }))

  it.effect("keeps subjects and limits apart whose names differ in anything", () =>
    forAll(differentNames(5), 40, (names) =>
      Effect.gen(function*() {
        const limiter = yield* RateLimiter
        const pairs = names.flatMap((name) => names.map((subject) => ({ limit: { ...day, name, limit: 1 }, subject })))
        // Other tests have used some of them.
        for (const { limit, subject } of pairs) yield* limiter.reset(limit, subject)
        for (const { limit, subject } of pairs) assert.isTrue((yield* limiter.check(limit, subject)).allowed)
        for (const { limit, subject } of pairs) assert.isFalse((yield* limiter.check(limit, subject)).allowed)
      })))
}
