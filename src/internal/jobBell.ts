/** Wakes a worker that rests. */
import { Effect } from "effect"

/** Wakes a loop that rests. Rung while it does not rest, it makes the next rest end at once. */
export const makeBell = () => {
  let rung = false
  let wake: (() => void) | undefined
  return {
    reset: () => {
      rung = false
    },
    ring: () => {
      rung = true
      wake?.()
    },
    wait: (millis: number): Effect.Effect<void> =>
      Effect.suspend(() =>
        rung ? Effect.yieldNow : Effect.race(
          Effect.callback<void>((resume) => {
            wake = () => resume(Effect.void)
            // The race has begun only now, and it may have been rung since.
            if (rung) wake()
          }),
          Effect.sleep(millis)
        )
      )
  }
}
