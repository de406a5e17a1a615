/** What a limit is: plain values, to be declared once and checked with `RateLimiter`. */
import type { Duration } from "effect"

/** What all limits have. */
interface Common {
  /** Tells the limits on one subject apart, and is what a verdict names. */
  readonly name: string
  /** Whether all services on this Redis count together, rather than one namespace. Default: false. */
  readonly shared?: boolean | undefined
}

/** At most `limit` in each window; a window opens with the first call that is counted after the last one closed. */
export interface FixedWindow extends Common {
  readonly algorithm: "fixedWindow"
  readonly limit: number
  /** From 1 millisecond to 400 days, in whole milliseconds. */
  readonly window: Duration.Input
}

/** About `limit` in any stretch of `window`. */
export interface SlidingWindow extends Common {
  readonly algorithm: "slidingWindow"
  readonly limit: number
  /** From 1 millisecond to 400 days, in whole milliseconds. */
  readonly window: Duration.Input
}

/** At most `capacity` at once, refilled evenly with `refill` in each `per`. */
export interface TokenBucket extends Common {
  readonly algorithm: "tokenBucket"
  readonly capacity: number
  /** Fills an empty bucket within 100 years. */
  readonly refill: number
  /** From 1 millisecond to 400 days, in whole milliseconds. */
  readonly per: Duration.Input
}

/** `limit` in each `period`, evenly spaced but for `burst`. */
export interface Gcra extends Common {
  readonly algorithm: "gcra"
  readonly limit: number
  /** From 1 millisecond to 400 days, in whole milliseconds. */
  readonly period: Duration.Input
  /** How much may come at once after a pause. Default: 1, which spaces everything evenly. */
  readonly burst?: number | undefined
}

/** A limit. What is wrong with it is said when it is checked: `RateLimiter` fails with `InvalidInput`. */
export type RateLimit = FixedWindow | SlidingWindow | TokenBucket | Gcra

/**
 * Counts in windows that follow one another: cheap and easy to explain, right for quotas like 1,000 a day. A window
 * opens with the first call that is counted, so that not all subjects start anew at the same moment. Across the border
 * of two windows up to twice `limit` can pass within the length of one.
 *
 * @example
 * ```ts
 * import { RateLimit } from "effect-redis-kit"
 *
 * export const daily = RateLimit.fixedWindow({ name: "daily", limit: 1000, window: "1 day" })
 * ```
 */
export const fixedWindow = (options: Omit<FixedWindow, "algorithm">): FixedWindow => ({
  algorithm: "fixedWindow",
  ...options
})

/**
 * Counts in the current window, and adds the last one's count for the part of it that still lies within `window`: the
 * sliding window counter as Cloudflare describes it ("How we built rate limiting capable of scaling to millions of
 * domains", 2017). It takes the last window's calls as spread evenly: Cloudflare found 0.003 % of their requests judged
 * wrongly, but calls that all come at the end of one window and of the next can be nearly twice `limit` within `window`.
 * Never more than `limit` are counted within one window. Right for large limits.
 *
 * @example
 * ```ts
 * import { RateLimit } from "effect-redis-kit"
 *
 * export const perMinute = RateLimit.slidingWindow({ name: "per-minute", limit: 600, window: "1 minute" })
 * ```
 */
export const slidingWindow = (options: Omit<SlidingWindow, "algorithm">): SlidingWindow => ({
  algorithm: "slidingWindow",
  ...options
})

/**
 * A bucket of `capacity` tokens, full at first, into which tokens drip evenly: bursts up to `capacity`, and `refill` per
 * `per` in the long run. Any stretch of time `t` lets at most `capacity + refill * t / per` pass.
 *
 * @example
 * ```ts
 * import { RateLimit } from "effect-redis-kit"
 *
 * export const tokens = RateLimit.tokenBucket({ name: "llm-tokens", capacity: 40_000, refill: 200_000, per: "1 minute" })
 * ```
 */
export const tokenBucket = (options: Omit<TokenBucket, "algorithm">): TokenBucket => ({
  algorithm: "tokenBucket",
  ...options
})

/**
 * The generic cell rate algorithm that ITU-T I.371 defines for ATM networks, in its continuous-state leaky bucket form
 * (the virtual scheduling form decides the same): `limit` per `period`, evenly spaced, and at most `burst` at once. Any
 * stretch of time `t` lets at most `burst + limit * t / period` pass. Right for smoothing what goes to others.
 *
 * @example
 * ```ts
 * import { RateLimit } from "effect-redis-kit"
 *
 * // One call every 100 milliseconds; after a pause, 5 at once.
 * export const smooth = RateLimit.gcra({ name: "partner-api", limit: 10, period: "1 second", burst: 5 })
 * ```
 */
export const gcra = (options: Omit<Gcra, "algorithm">): Gcra => ({ algorithm: "gcra", ...options })
