/** rate-limiter-flexible on ioredis, with its default options. */
import { Redis } from "ioredis"
import { RateLimiterRedis } from "rate-limiter-flexible"
import { limit } from "../ratelimit.ts"
import { fromCallers } from "../support/callers.ts"

/** @type {import("../support/case.ts").Open<import("../ratelimit.ts").RateLimitAdapter>} */
export const open = async (port) => {
  const storeClient = new Redis({ port })
  const limiter = new RateLimiterRedis({ storeClient, points: limit, duration: 60 })
  return {
    check: (callers, next, onVerdict) =>
      fromCallers(callers, next, async (subject) => {
        // It rejects a call that it denies.
        await limiter.consume(subject)
        onVerdict(true)
      }),
    close: () => storeClient.quit()
  }
}
