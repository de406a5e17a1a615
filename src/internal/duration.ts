/** Durations from callers, checked. */
import { Duration, Option } from "effect"

/**
 * A duration in milliseconds; undefined when it is negative, infinite, or none at all. Effect reads a negative number as
 * zero, which would hide a caller's mistake.
 */
export const finiteMillis = (input: Duration.Input): number | undefined => {
  if (typeof input === "number" && !(input >= 0)) return undefined
  if (typeof input === "string" && input.trimStart().startsWith("-")) return undefined
  const millis = Option.map(Duration.fromInput(input), Duration.toMillis)
  return Option.isSome(millis) && Number.isFinite(millis.value) && millis.value >= 0 ? millis.value : undefined
}
