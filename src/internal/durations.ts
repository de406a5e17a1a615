/** Durations from users that have limits. */
import { Duration, Result } from "effect"
import { InvalidInput } from "../RedisError.ts"
import { finiteMillis } from "./duration.ts"

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
