/** Rate limits: one fixed window, checked by 50 callers at once. */
import { counted, forSeconds } from "./support/callers.ts"
import { type Case, rate, withAdapter } from "./support/case.ts"

/** A rate limiter as the measurements use it. */
export interface RateLimitAdapter {
  /** Checks `limit` a minute for the subjects that `next` yields, from so many callers, and hands on each verdict. */
  readonly check: (
    callers: number,
    next: () => string | undefined,
    onVerdict: (allowed: boolean) => void
  ) => Promise<unknown>
  readonly close: () => Promise<unknown>
}

/** So high that nobody reaches it. */
export const limit = 1_000_000

const subjects = Array.from({ length: 1000 }, (_, i) => `client-${i}`)

const systems = {
  "ours": "ours/rateLimit.ts",
  "floor": "floors/rateLimit.ts",
  "rate-limiter-flexible": "peers/rateLimiterFlexible.mjs",
  "effect-rate-limiter": "peers/effectRateLimiter.mjs"
}

const check: Case = {
  name: "ratelimit.check",
  figures: [{ id: "ratelimit.check", unit: "ops/s", better: "more" }],
  about: "50 callers, 1,000 subjects, a fixed window that is never used up; floor: one EVALSHA that counts",
  isRate: true,
  size: 0,
  smokeSize: 0,
  systems,
  run: withAdapter<RateLimitAdapter>(systems, async (limiter, { seconds }, probe) => {
    const subject = (i: number) => subjects[i % subjects.length]!
    let verdicts = 0
    const onVerdict = (allowed: boolean) => {
      if (!allowed) throw new Error("a call was denied")
      verdicts++
    }
    await limiter.check(50, counted(1000, subject), onVerdict)
    verdicts = 0
    const cost = await probe.cost(async () => {
      await limiter.check(50, forSeconds(seconds, subject).next, onVerdict)
      return { n: verdicts }
    })
    return rate("ratelimit.check", cost)
  })
}

export const rateLimitCases: ReadonlyArray<Case> = [check]
