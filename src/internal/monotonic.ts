/** Time for what this process measures by itself. */
import type { Clock } from "effect"

/** Milliseconds that only ever grow, from an arbitrary origin: no correction of the clock reaches them. */
export const monotonicMillis = (clock: Clock.Clock): number => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
