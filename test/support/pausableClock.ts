/** A process that stands still, for those who use its clock: a paused VM, a blocked event loop. */
import { Clock, Effect, Latch } from "effect"

export interface PausableClock {
  readonly clock: Clock.Clock
  /** From now on no sleep ends. With `monotonic`, the time that passes meanwhile is not seen afterwards either. */
  readonly pause: (options?: { readonly monotonic?: boolean }) => Effect.Effect<void>
  readonly resume: Effect.Effect<void>
}

/** The clock that is installed now, made pausable. Wall time goes on: it is what engines in memory take for the server's. */
export const pausableClock: Effect.Effect<PausableClock> = Effect.gen(function*() {
  const running = yield* Clock.Clock
  const latch = yield* Latch.make(true)
  let frozenAt: bigint | undefined
  let skipped = 0n
  const monotonic = () => (frozenAt ?? running.monotonicTimeNanosUnsafe()) - skipped
  return {
    clock: {
      currentTimeMillisUnsafe: () => running.currentTimeMillisUnsafe(),
      currentTimeMillis: running.currentTimeMillis,
      currentTimeNanosUnsafe: () => running.currentTimeNanosUnsafe(),
      currentTimeNanos: running.currentTimeNanos,
      monotonicTimeNanosUnsafe: monotonic,
      monotonicTimeNanos: Effect.sync(monotonic),
      sleep: (duration) => Effect.andThen(running.sleep(duration), latch.await)
    },
    pause: (options) =>
      Effect.andThen(
        latch.close,
        Effect.sync(() => {
          if (options?.monotonic === true) frozenAt = running.monotonicTimeNanosUnsafe()
        })
      ),
    resume: Effect.suspend(() => {
      if (frozenAt !== undefined) skipped += running.monotonicTimeNanosUnsafe() - frozenAt
      frozenAt = undefined
      return latch.open
    })
  }
})
