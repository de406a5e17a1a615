/** What is inferred of rate limits. */
import { Context, type Duration, Effect, type Layer } from "effect"
import { describe, expectTypeOf, it } from "vitest"
import * as RateLimit from "../../src/RateLimit.ts"
import {
  type CostAboveLimit,
  type RateLimited,
  RateLimiter,
  RateLimiterLive,
  type Verdict
} from "../../src/RateLimiter.ts"
import type { RedisClient } from "../../src/RedisClient.ts"
import type { InvalidInput, RedisError } from "../../src/RedisError.ts"

class Mailer extends Context.Service<Mailer, { readonly send: Effect.Effect<number, "bounced"> }>()("test/Mailer") {}

declare const limiter: RateLimiter["Service"]

const send = Effect.flatMap(Mailer, ({ send }) => send)
const limit = RateLimit.gcra({ name: "api", limit: 10, period: "1 second" })

type Failed = InvalidInput | CostAboveLimit | RedisError

describe("RateLimiter's types", () => {
  it("limit adds its errors to the effect's, and keeps the rest", () => {
    expectTypeOf(() => send.pipe(limiter.limit(limit, "s", { wait: "1 second" }))).returns.toEqualTypeOf<
      Effect.Effect<number, "bounced" | RateLimited | Failed, Mailer>
    >()
  })

  it("a denial is a verdict, not an error", () => {
    expectTypeOf(() => limiter.check([limit], "s")).returns.toEqualTypeOf<Effect.Effect<Verdict, Failed>>()
    expectTypeOf(() => limiter.peek(limit, "s")).returns.toEqualTypeOf<Effect.Effect<Verdict, Failed>>()
    expectTypeOf(() => limiter.reset(limit, "s")).returns.toEqualTypeOf<
      Effect.Effect<void, InvalidInput | RedisError>
    >()
    expectTypeOf<Verdict["retryAfter"]>().toEqualTypeOf<Duration.Duration>()
  })

  it("a check does not wait, and a limit has its own numbers", () => {
    // @ts-expect-error only `limit` waits
    expectTypeOf(() => limiter.check(limit, "s", { wait: "1 second" })).toBeFunction()
    // @ts-expect-error a bucket has a capacity
    expectTypeOf(() => RateLimit.tokenBucket({ name: "b", limit: 1, refill: 1, per: "1 second" })).toBeFunction()
    // @ts-expect-error not a policy
    expectTypeOf(() => limiter.check(limit, "s", { onUnavailable: "ignore" })).toBeFunction()
  })

  it("layers need the connection, but for the one in memory", () => {
    expectTypeOf(RateLimiterLive).toEqualTypeOf<Layer.Layer<RateLimiter, never, RedisClient>>()
    expectTypeOf(RateLimiter.layerMemory).toEqualTypeOf<Layer.Layer<RateLimiter>>()
  })
})
