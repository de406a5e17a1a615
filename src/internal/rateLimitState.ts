/** What a limit remembers of a subject, and what follows from it. The scripts do the same arithmetic in the same order. */
import { type Duration, Result } from "effect"
import type { RateLimit } from "../RateLimit.ts"
import { InvalidInput } from "../RedisError.ts"
import { checkMillis } from "./duration.ts"
import { checkName, escapeName } from "./keys.ts"

/**
 * `level`: what was counted in the current window, or stands in the bucket. `since` (microseconds): when the window
 * opened, or when the level was that. `previous`: what was counted in the window before; only a sliding window's.
 */
export interface LimitState {
  readonly level: number
  readonly since: number
  readonly previous: number
}

/** A limit that was checked, in the numbers that the arithmetic needs. Times are in microseconds. */
export interface KnownLimit {
  readonly name: string
  readonly shared: boolean
  readonly kind: Kind
  /** The most that can pass at once. */
  readonly capacity: number
  readonly period: number
  /** How much leaves a bucket in each period. */
  readonly refill: number
  /** What the key ends with, after the subject. */
  readonly keySuffix: string
  /** How long the state matters after its last change, with room to spare. */
  readonly keepMillis: number
  /** What the script reads, in its order. */
  readonly args: ReadonlyArray<string>
}

/**
 * Ends the key too, so that a limit that changes its algorithm starts anew instead of misreading its past. Another
 * format of the state takes another letter. Token bucket and GCRA are one: what has come and not yet leaked away.
 */
type Kind = "f" | "s" | "b"

// Above it, what one millisecond adds to a slow bucket gets lost in the rounding.
const mostCapacity = 1e9
const longestMillis = 400 * 24 * 3_600_000
// A hundred years: far more is no time that a server can keep a key for.
const longestRefillMillis = 36_500 * 24 * 3_600_000
const slackMillis = 10_000

const known = new WeakMap<RateLimit, Result.Result<KnownLimit, InvalidInput>>()

// Once for each value.
const knownLimit = (limit: RateLimit): Result.Result<KnownLimit, InvalidInput> => {
  let result = known.get(limit)
  if (result === undefined) known.set(limit, result = understand(limit))
  return result
}

/** The most limits that one call may ask for at once. */
const mostLimits = 16

/** Checks limits that decide together. */
export const knownLimits = (
  limits: RateLimit | ReadonlyArray<RateLimit>
): Result.Result<ReadonlyArray<KnownLimit>, InvalidInput> => {
  if (!Array.isArray(limits)) return Result.map(knownLimit(limits as RateLimit), (limit) => [limit])
  if (limits.length < 1 || limits.length > mostLimits) return refuse(`there are not 1 to ${mostLimits} of them`)
  const all: Array<KnownLimit> = []
  for (const limit of limits as ReadonlyArray<RateLimit>) {
    const result = knownLimit(limit)
    if (Result.isFailure(result)) return Result.fail(result.failure)
    if (all.some(({ name }) => name === limit.name)) return refuse(`two of them are called ${limit.name}`)
    all.push(result.success)
  }
  return Result.succeed(all)
}

const refuse = (problem: string) => Result.fail(new InvalidInput({ input: "limits", problem }))

const understand = (limit: RateLimit): Result.Result<KnownLimit, InvalidInput> => {
  const name = checkName("limit name", limit.name)
  if (Result.isFailure(name)) return Result.fail(name.failure)
  const [kind, capacity, refill, period] = shapeOf(limit)
  for (const amount of [capacity, refill]) {
    if (!(amount > 0 && amount <= mostCapacity)) {
      return refuse(`a number of ${limit.name} is not above 0 and at most ${mostCapacity}`)
    }
  }
  return Result.flatMap(checkMillis(`period of limit ${limit.name}`, period, 1, longestMillis), (millis) => {
    const lasts = kind === "b" ? Math.ceil(capacity / refill * millis) : kind === "s" ? 2 * millis : millis
    return lasts > longestRefillMillis
      ? refuse(`${limit.name} takes more than 100 years to refill`)
      : Result.succeed(
        limitOf(limit.name, limit.shared === true, kind, capacity, millis * 1000, refill, lasts + slackMillis)
      )
  })
}

const shapeOf = (
  limit: RateLimit
): readonly [kind: Kind, capacity: number, refill: number, period: Duration.Input] => {
  if (limit.algorithm === "tokenBucket") return ["b", limit.capacity, limit.refill, limit.per]
  if (limit.algorithm === "gcra") return ["b", limit.burst ?? 1, limit.limit, limit.period]
  return [limit.algorithm === "fixedWindow" ? "f" : "s", limit.limit, limit.limit, limit.window]
}

const limitOf = (
  name: string,
  shared: boolean,
  kind: Kind,
  capacity: number,
  period: number,
  refill: number,
  keepMillis: number
): KnownLimit => ({
  name,
  shared,
  kind,
  capacity,
  period,
  refill,
  keySuffix: `:${escapeName(name)}:${kind}`,
  keepMillis,
  args: [kind, ...[capacity, period, refill, keepMillis].map(String)]
})

/** The part of a limit that one of several processes may use on its own. A bucket keeps room for one call at a time. */
export const shareOf = (limit: KnownLimit, share: number): KnownLimit => {
  const capacity = limit.kind === "b"
    ? Math.min(limit.capacity, Math.max(1, limit.capacity * share))
    : limit.capacity * share
  const { keepMillis, kind, name, period, refill, shared } = limit
  return limitOf(name, shared, kind, capacity, period, refill * share, Math.ceil(keepMillis / share))
}

/**
 * The state as it is at `now`: windows have passed, buckets have leaked. A clock that went back lets no time pass, and
 * what an earlier configuration counted is at most what this one allows.
 */
export const stateAt = (limit: KnownLimit, state: LimitState | undefined, now: number): LimitState => {
  if (state === undefined) return { level: 0, since: now, previous: 0 }
  const level = Math.min(state.level, limit.capacity)
  const previous = Math.min(state.previous, limit.capacity)
  const since = Math.min(state.since, now)
  const elapsed = now - since
  if (limit.kind === "b") {
    return { level: Math.max(0, level - elapsed * limit.refill / limit.period), since: now, previous: 0 }
  }
  if (elapsed < limit.period) return { level, since, previous }
  return limit.kind === "s" && elapsed < 2 * limit.period
    ? { level: 0, since: since + limit.period, previous: level }
    : { level: 0, since: now, previous: 0 }
}

/** The state as engines report it: amounts in whole millionths, rounded up but for the error of a sum of fractions. */
export const reported = ({ level, previous, since }: LimitState): LimitState => ({
  level: millionths(level),
  since,
  previous: millionths(previous)
})

const millionths = (amount: number) => Math.ceil(amount * 1_000_000 - 0.001) / 1_000_000

/** How much of the capacity is in use. Takes a state as it is at `now`. */
export const usedAt = (limit: KnownLimit, { level, previous, since }: LimitState, now: number): number =>
  limit.kind === "s" ? previous * (limit.period - (now - since)) / limit.period + level : level

/**
 * Whether `cost` fits. Takes a state as it is at `now`. Sums of fractions miss whole numbers by less than `slack`;
 * predictions have less of it than decisions, so that what they promise is kept.
 */
export const passes = (limit: KnownLimit, state: LimitState, now: number, cost: number, slack: number): boolean =>
  usedAt(limit, state, now) + cost <= limit.capacity + slack

/** What a decision forgives, here and in the script. */
export const decisionSlack = 1e-8
const predictionSlack = decisionSlack / 2

/**
 * In how many milliseconds `cost` fits when nothing else comes. Takes a state as it is at `now`, and a cost that is not
 * above the capacity.
 */
export const waitMillis = (limit: KnownLimit, state: LimitState, now: number, cost: number): number => {
  const fitsAfter = (millis: number) => {
    const then = now + millis * 1000
    return passes(limit, stateAt(limit, state, then), then, cost, predictionSlack)
  }
  if (fitsAfter(0)) return 0
  // The formulas below round differently than a decision does, which has the last word.
  let millis = Math.max(1, Math.ceil(waitMicros(limit, state, now, cost) / 1000 - 1e-6))
  for (let step = 1; !fitsAfter(millis); step *= 2) millis += step
  return millis
}

const waitMicros = (limit: KnownLimit, { level, previous, since }: LimitState, now: number, cost: number): number => {
  const { capacity, kind, period, refill } = limit
  if (kind === "b") return (level + cost - capacity) * period / refill
  const windowEnds = since + period
  if (kind === "f") return windowEnds - now
  return level + cost <= capacity
    ? windowEnds - period * (capacity - level - cost) / previous - now
    : windowEnds + period - period * (capacity - cost) / level - now
}

/** In how many milliseconds the limit is as if never used. Takes a state as it is at `now`. */
export const resetMillis = (limit: KnownLimit, { level, previous, since }: LimitState, now: number): number => {
  if (limit.kind === "b") return Math.ceil(level * limit.period / limit.refill / 1000)
  if (level === 0 && previous === 0) return 0
  const windows = limit.kind === "s" && level > 0 ? 2 : 1
  return Math.ceil((since + windows * limit.period - now) / 1000)
}
