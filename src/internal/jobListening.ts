/** Hears the letters of one queue. */
import { Effect, Schedule } from "effect"
import type { Letter, QueueEngine, QueueStore } from "./queueEngine.ts"

/** Letters for this queue; the subscription is tried until it stands, as polling covers for it. */
export const keepListening = (
  engine: QueueEngine,
  store: QueueStore,
  onLetter: (letter: Letter) => void,
  onListening: () => void
) =>
  engine.inbox.listen(store.address, onLetter).pipe(
    // What was said before anyone listened has not been heard.
    Effect.andThen(Effect.sync(onListening)),
    Effect.andThen(Effect.never),
    Effect.scoped,
    Effect.tapError((error) => Effect.logWarning(`Workers cannot be woken up: ${error.message}`)),
    Effect.retry(Schedule.spaced("1 second"))
  )
