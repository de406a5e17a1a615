/** Rate limits when Redis is away, slow, full or restarted. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Layer } from "effect"
import * as RateLimit from "../../src/RateLimit.ts"
import { RateLimiter, type RateLimiterOptions } from "../../src/RateLimiter.ts"
import { RedisClient } from "../../src/RedisClient.ts"
import { elapseLive } from "../support/elapse.ts"
import { Proxy } from "../support/proxy.ts"
import { RedisServer } from "../support/redisServer.ts"

const quota = RateLimit.fixedWindow({ name: "quota", limit: 8, window: "1 hour" })
const smooth = RateLimit.gcra({ name: "smooth", limit: 1, period: "1 hour" })

const on = (url: string, options: RateLimiterOptions = {}) =>
  RateLimiter.layer({ timeout: "80 millis", ...options }).pipe(
    Layer.provideMerge(RedisClient.layer({ url, namespace: "limits" }))
  )

/** A limiter on a server of the test's own, which the test pauses or stops. */
const withServer = <A, E>(
  options: RateLimiterOptions,
  test: (server: RedisServer) => Effect.Effect<A, E, RateLimiter | RedisClient>
) =>
  Effect.scoped(Effect.gen(function*() {
    const server = yield* RedisServer.start()
    return yield* Effect.provide(test(server), on(server.url, options))
  }))

const check = (options?: { readonly cost?: number; readonly onUnavailable?: RateLimiterOptions["onUnavailable"] }) =>
  Effect.flatMap(RateLimiter, (limiter) => limiter.check(quota, "s", options))

/** Lets the limiter's pause during an outage pass. */
const later = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> => {
  const live = Clock.Clock.defaultValue()
  const clock: Clock.Clock = Object.create(live)
  clock.monotonicTimeNanosUnsafe = () => live.monotonicTimeNanosUnsafe() + 1_100_000_000n
  return Effect.provideService(effect, Clock.Clock, clock)
}

/** Asks until Redis has decided again. */
const recovered = (again: ReturnType<typeof check>) =>
  Effect.gen(function*() {
    const last = performance.now() + 5000
    let verdict = yield* later(again)
    while (verdict.degraded) {
      if (performance.now() > last) assert.fail("Still degraded after 5 seconds")
      yield* elapseLive("10 millis")
      verdict = yield* later(again)
    }
    return verdict
  })

describe("RateLimiter when Redis is away", () => {
  it.live("fails by default, and says whether it may have counted", () =>
    withServer({}, (server) =>
      Effect.gen(function*() {
        const limiter = yield* RateLimiter
        yield* check()
        yield* server.pause
        assert.deepInclude(yield* Effect.flip(check()), { _tag: "RedisError", reason: "timeout", outcome: "Unknown" })
        assert.strictEqual((yield* Effect.flip(limiter.limit(quota, "s")(Effect.void)))._tag, "RedisError")
        assert.strictEqual((yield* Effect.flip(limiter.reset(quota, "s")))._tag, "RedisError")
        yield* server.resume
      })))

  it.live("allows, as declared, and says that nobody counted", () =>
    withServer({ onUnavailable: "allow" }, (server) =>
      Effect.gen(function*() {
        assert.isFalse((yield* check()).degraded)
        yield* server.pause
        for (let i = 0; i < 20; i++) {
          const verdict = yield* check()
          assert.deepInclude(verdict, { allowed: true, degraded: true, limit: "quota", remaining: 8 })
        }
        yield* server.resume
      })))

  it.live("denies, as declared, and tells when to ask again", () =>
    withServer({ onUnavailable: "deny" }, (server) =>
      Effect.gen(function*() {
        const limiter = yield* RateLimiter
        assert.isTrue((yield* check()).allowed)
        yield* server.pause
        const verdict = yield* check()
        assert.deepInclude(verdict, { allowed: false, degraded: true, limit: "quota", remaining: 0 })
        assert.strictEqual(Duration.toMillis(verdict.retryAfter), 1000)
        const error = yield* Effect.flip(limiter.limit(quota, "s")(Effect.void))
        assert.deepInclude(error, { _tag: "RateLimited", degraded: true, limit: "quota" })
        assert.isFalse((yield* limiter.peek(quota, "s")).allowed)
        yield* server.resume
      })))

  it.live("lets a local share pass, as declared", () =>
    withServer({ onUnavailable: { local: 0.25 } }, (server) =>
      Effect.gen(function*() {
        const limiter = yield* RateLimiter
        yield* check({ cost: 8 })
        yield* server.pause
        const verdicts = []
        for (let i = 0; i < 3; i++) verdicts.push(yield* check())
        assert.deepStrictEqual(verdicts.map(({ allowed, remaining }) => [allowed, remaining]), [
          [true, 1],
          [true, 0],
          [false, 0]
        ])
        assert.isTrue(verdicts.every(({ capacity, degraded }) => degraded && capacity === 2))
        // A bucket keeps room for one, and refills at its share of the rate.
        const [first, second] = [yield* limiter.check(smooth, "s"), yield* limiter.check(smooth, "s")]
        assert.deepStrictEqual([first.allowed, second.allowed], [true, false])
        assert.closeTo(Duration.toMillis(second.retryAfter) / 3_600_000, 4, 0.01)
        // What a share never lets pass is denied for now, as Redis may be back soon.
        const big = yield* check({ cost: 3 })
        assert.deepInclude(big, { allowed: false, degraded: true })
        assert.strictEqual(Duration.toMillis(big.retryAfter), 1000)
        yield* server.resume
      })))

  it.live("asks what a call declares, rather than the layer", () =>
    withServer({ onUnavailable: "allow" }, (server) =>
      Effect.gen(function*() {
        yield* check()
        yield* server.pause
        assert.strictEqual((yield* Effect.flip(check({ onUnavailable: "fail" })))._tag, "RedisError")
        assert.isFalse((yield* check({ onUnavailable: "deny" })).allowed)
        assert.isTrue((yield* check()).allowed)
        yield* server.resume
      })))

  it.live("still refuses bad input", () =>
    withServer({ onUnavailable: "allow" }, (server) =>
      Effect.gen(function*() {
        yield* server.pause
        assert.strictEqual((yield* Effect.flip(check({ cost: -1 })))._tag, "InvalidInput")
        assert.strictEqual((yield* Effect.flip(check({ cost: 9 })))._tag, "CostAboveLimit")
        for (const local of [0, -1, 1.5, Number.NaN]) {
          assert.strictEqual((yield* Effect.flip(check({ onUnavailable: { local } })))._tag, "InvalidInput")
        }
        yield* server.resume
      })))

  it.live("leaves Redis alone for a while, and counts there again when it is back", () =>
    withServer({ onUnavailable: "allow" }, (server) =>
      Effect.gen(function*() {
        yield* check()
        yield* server.pause
        yield* check()
        yield* server.resume
        yield* server.cli("CONFIG", "RESETSTAT")
        assert.isTrue((yield* check()).degraded)
        assert.notInclude(String(yield* server.cli("INFO", "commandstats")), "evalsha")
        const verdict = yield* recovered(check())
        assert.isFalse(verdict.degraded)
        assert.isFalse((yield* check()).degraded)
      })))

  it.live("goes on without it while its connection is cut and refused, and with it afterwards", () =>
    Effect.scoped(Effect.gen(function*() {
      const server = yield* RedisServer.start()
      const proxy = yield* Proxy.start(server)
      yield* Effect.gen(function*() {
        yield* check()
        yield* proxy.refuse
        yield* proxy.cut
        assert.deepInclude(yield* check(), { allowed: true, degraded: true })
        yield* proxy.accept
        assert.strictEqual((yield* recovered(check())).capacity, 8)
      }).pipe(Effect.provide(on(proxy.url, { onUnavailable: "allow" })))
    })))

  it.live("does not ask twice when a reply is lost: what was counted is counted once", () =>
    Effect.scoped(Effect.gen(function*() {
      const server = yield* RedisServer.start()
      const proxy = yield* Proxy.start(server)
      yield* Effect.gen(function*() {
        yield* check()
        yield* proxy.dropNextReply()
        assert.deepInclude(yield* Effect.flip(check()), { _tag: "RedisError", outcome: "Unknown" })
        // One before, the lost one, and this.
        assert.strictEqual((yield* check()).remaining, 5)
      }).pipe(Effect.provide(on(proxy.url, { timeout: "2 seconds" })))
    })))

  it.live("stands in for a server that cannot count, too, but not for one that forbids it", () =>
    withServer({ onUnavailable: "allow" }, (server) =>
      Effect.gen(function*() {
        yield* check()
        yield* server.cli("CONFIG", "SET", "maxmemory", "1")
        assert.isTrue((yield* check()).degraded)
        yield* server.cli("CONFIG", "SET", "maxmemory", "0")
        yield* recovered(check())
        yield* server.cli("ACL", "SETUSER", "default", "-set")
        const error = yield* Effect.flip(later(check()))
        assert.strictEqual(error._tag, "RedisError")
      })))
})

describe("RateLimiter's commands", () => {
  it.live("are one EVALSHA for each check, whatever the limits, and one UNLINK for a reset", () =>
    withServer({ timeout: "5 seconds" }, (server) =>
      Effect.gen(function*() {
        const limiter = yield* RateLimiter
        const limits = [quota, RateLimit.slidingWindow({ name: "slide", limit: 50, window: "1 hour" })]
        yield* limiter.check(limits, "warm up")
        yield* limiter.peek(limits, "warm up")
        yield* server.cli("CONFIG", "RESETSTAT")
        for (let i = 0; i < 20; i++) yield* limiter.check(limits, "s")
        for (let i = 0; i < 5; i++) yield* limiter.peek(limits, "s")
        yield* limiter.reset(limits, "s")
        const stats = String(yield* server.cli("INFO", "commandstats"))
        const calls = (command: string) => Number(new RegExp(`cmdstat_${command}:calls=(\\d+)`).exec(stats)?.[1] ?? 0)
        assert.deepStrictEqual(
          {
            evalsha: calls("evalsha"),
            eval: calls("eval"),
            get: calls("get"),
            set: calls("set"),
            unlink: calls("unlink")
          },
          { evalsha: 25, eval: 0, get: 50, set: 16, unlink: 1 }
        )
      })))
})
