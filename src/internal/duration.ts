/** Durations from callers, checked. */
import { Duration, Option, Result } from "effect"
import { InvalidInput } from "../RedisError.ts"

/**
 * A duration in milliseconds; undefined when it is negative, infinite, or none at all. Effect reads NaN as zero, which
 * would hide a caller's mistake.
 */
export const finiteMillis = (input: Duration.Input): number | undefined => {
  if (typeof input === "number" && !(input >= 0)) return undefined
  if (typeof input === "string" && input.trimStart().startsWith("-")) return undefined
  if (typeof input === "object" && input !== null && Object.values(input).some(Number.isNaN)) return undefined
  const millis = Option.map(Duration.fromInput(input), Duration.toMillis)
  return Option.isSome(millis) && Number.isFinite(millis.value) && millis.value >= 0 ? millis.value : undefined
}

/** `finiteMillis`, where one may wait for ever, too; NaN when it is no time at all. */
export const patienceMillis = (input: Duration.Input): number =>
  finiteMillis(input) ??
    (Option.exists(Duration.fromInput(input), (duration) => Duration.toMillis(duration) === Infinity) ? Infinity : NaN)

/**
 * Whole milliseconds, rounded up; refuses what is not between `least` and `most` milliseconds. `input` names it, like
 * `lock ttl`.
 */
export const checkMillis = (
  input: string,
  duration: Duration.Input,
  least: number,
  most: number
): Result.Result<number, InvalidInput> => {
  const millis = Math.ceil(finiteMillis(duration) ?? NaN)
  if (millis >= least && millis <= most) return Result.succeed(millis)
  const [from, to] = [least, most].map((limit) => Duration.format(Duration.millis(limit)))
  return Result.fail(new InvalidInput({ input, problem: `it is not between ${from} and ${to}` }))
}

// Half of the last time that a date can have, so that now and a delay do not add up to more.
const longestWaitMillis = 4.32e15

/** `finiteMillis`, but undefined too when no date can be written that is so far ahead. */
export const waitableMillis = (input: Duration.Input): number | undefined => {
  const millis = finiteMillis(input)
  return millis === undefined || millis > longestWaitMillis ? undefined : millis
}

/** What is wrong with a delay that `waitableMillis` refuses. */
export const notWaitable = "it is not a finite duration of at least 0 that ends before the last date there is"
