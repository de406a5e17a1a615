/** Waiting for what servers do in their own time. */
import { Effect } from "effect"
import { setTimeout as sleep } from "node:timers/promises"

const everyMillis = 15

/**
 * Repeats `probe` until it does not reject, in real time, also under TestClock. Dies when it takes too long, with what
 * the probe last rejected with: say there what is missing.
 */
export const until = <A>(what: string, probe: () => Promise<A>, withinMillis = 20_000): Effect.Effect<A> =>
  Effect.promise(async (signal) => {
    const deadline = performance.now() + withinMillis
    for (;;) {
      try {
        return await probe()
      } catch (cause) {
        signal.throwIfAborted()
        if (performance.now() > deadline) {
          throw new Error(`${what}: not within ${withinMillis} ms. ${String(cause)}`, { cause })
        }
      }
      await sleep(everyMillis)
    }
  })
