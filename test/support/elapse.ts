/** How an engine's time passes in a contract suite. */
import { Clock, type Duration, Effect } from "effect"
import { TestClock } from "effect/testing"

export type Elapse = (duration: Duration.Input) => Effect.Effect<void>

/** Waits, by the real clock, also where a TestClock is installed. */
export const elapseLive: Elapse = (duration) =>
  Effect.provideService(Effect.sleep(duration), Clock.Clock, Clock.Clock.defaultValue())

/** Moves the TestClock, without waiting. */
export const elapseTest: Elapse = TestClock.adjust
