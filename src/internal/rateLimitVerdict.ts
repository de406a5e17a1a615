/** What a decision means to the caller. */
import { Duration } from "effect"
import type { Standing } from "./rateLimitEngine.ts"
import { type KnownLimit, type LimitState, resetMillis, stateAt, usedAt, waitMillis } from "./rateLimitState.ts"

/** How one limit stands after a decision. */
export interface LimitVerdict {
  /** The limit's name. */
  readonly limit: string
  /** Whether this limit lets the call pass, whatever the others say. */
  readonly allowed: boolean
  /** The most that it lets pass at once. */
  readonly capacity: number
  /** How much could still pass now, rounded down. */
  readonly remaining: number
  /** When the same call passes if nothing else comes until then, in whole milliseconds. Zero when it is allowed. */
  readonly retryAfter: Duration.Duration
  /** When the limit is as if never used if nothing else comes until then, in whole milliseconds. */
  readonly resetAfter: Duration.Duration
}

/**
 * A decision, described by the limit that bound: of those that deny, the one with the longest wait; of a call that is
 * allowed, the one with the least left.
 */
export interface Verdict extends LimitVerdict {
  /**
   * Whether Redis was away, so that this process decided alone. When it did not count (`allow` and `deny`), `remaining`
   * is all or nothing.
   */
  readonly degraded: boolean
  /** Each limit by itself, in the order in which they were given. */
  readonly limits: ReadonlyArray<LimitVerdict>
}

/** Describes how limits stand. `decided` tells whether the call was let through; without it, what it would be. */
export const judge = (
  limits: ReadonlyArray<KnownLimit>,
  { now, states }: Standing,
  cost: number,
  decided: boolean | undefined,
  degraded: boolean
): Verdict => {
  const verdict = bound(
    limits.map((limit, i) => judgeOne(limit, stateAt(limit, states[i], now), now, cost, decided === true)),
    degraded
  )
  // Denied by less than what reported states are rounded to.
  return decided === false && verdict.allowed
    ? { ...verdict, allowed: false, retryAfter: Duration.millis(1) }
    : verdict
}

const judgeOne = (
  limit: KnownLimit,
  state: LimitState,
  now: number,
  cost: number,
  passed: boolean
): LimitVerdict => {
  const wait = passed ? 0 : waitMillis(limit, state, now, cost)
  return {
    limit: limit.name,
    allowed: wait === 0,
    capacity: limit.capacity,
    // Sums of fractions may miss a whole number by a rounding error.
    remaining: Math.floor(Math.max(0, limit.capacity - usedAt(limit, state, now)) + 1e-9),
    retryAfter: wait === 0 ? Duration.zero : Duration.millis(wait),
    resetAfter: Duration.millis(resetMillis(limit, state, now))
  }
}

/** A decision that nobody counted; a denied call may come again after `retryMillis`. */
export const uncounted = (limits: ReadonlyArray<KnownLimit>, allowed: boolean, retryMillis: number): Verdict =>
  bound(
    limits.map(({ capacity, name }) => ({
      limit: name,
      allowed,
      capacity,
      remaining: allowed ? Math.floor(capacity) : 0,
      retryAfter: allowed ? Duration.zero : Duration.millis(retryMillis),
      resetAfter: Duration.zero
    })),
    true
  )

const bound = (limits: ReadonlyArray<LimitVerdict>, degraded: boolean): Verdict => {
  const { allowed, capacity, limit, remaining, resetAfter, retryAfter } = limits.length === 1
    ? limits[0]!
    : limits.reduce((one, other) => bindsMore(other, one) ? other : one)
  return { allowed, limit, capacity, remaining, retryAfter, resetAfter, degraded, limits }
}

const bindsMore = (one: LimitVerdict, other: LimitVerdict): boolean =>
  one.allowed && other.allowed
    ? one.remaining < other.remaining
    : Duration.toMillis(one.retryAfter) > Duration.toMillis(other.retryAfter)
