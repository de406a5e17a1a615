/** Our rate limiter, with default options. */
import { Effect, Layer, ManagedRuntime } from "effect"
import { RateLimit, RateLimiter, RateLimiterLive, Redis } from "effect-redis-kit"
import { limit, type RateLimitAdapter } from "../ratelimit.ts"
import type { Open } from "../support/case.ts"
import { fromCallers } from "./callers.ts"

const perMinute = RateLimit.fixedWindow({ name: "bench", limit, window: "1 minute" })

export const open: Open<RateLimitAdapter> = async (port) => {
  const runtime = ManagedRuntime.make(
    Layer.provideMerge(RateLimiterLive, Redis.layer({ url: `redis://127.0.0.1:${port}` }))
  )
  const limiter = await runtime.runPromise(RateLimiter)
  return {
    check: (callers, next, onVerdict) =>
      runtime.runPromise(
        fromCallers(
          callers,
          next,
          (subject) => Effect.map(limiter.check(perMinute, subject), ({ allowed }) => onVerdict(allowed))
        )
      ),
    close: () => runtime.dispose()
  }
}
