/** From a queue's name, or a job, to the queue. */
import { Effect, Result } from "effect"
import type { QueueRef } from "../JobInfo.ts"
import type { InvalidInput } from "../RedisError.ts"
import { checkName } from "./keys.ts"
import type { QueueEngine, QueueStore } from "./queueEngine.ts"

/** Opens the queue that `ref` names. Fails when no key can be made of the name. */
export const openQueue = (
  engine: QueueEngine,
  ref: QueueRef
): Effect.Effect<{ readonly name: string; readonly store: QueueStore }, InvalidInput> => {
  const name = typeof ref === "string" ? ref : ref.queue
  const shared = typeof ref === "string" ? false : ref.shared === true
  return Effect.fromResult(Result.map(checkName("queue name", name), () => ({
    name,
    store: engine.open({ queue: name, shared })
  })))
}
