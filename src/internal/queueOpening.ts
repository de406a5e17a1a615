/** From a queue's name, or a job, to the queue. */
import { Effect, Result } from "effect"
import type { QueueRef } from "../JobInfo.ts"
import type { InvalidInput } from "../RedisError.ts"
import { checkName } from "./keys.ts"
import type { QueueEngine, QueueStore } from "./queueEngine.ts"

/** The queue that `ref` names. Fails when no key can be made of the name. */
export const queueOf = (
  engine: QueueEngine,
  ref: QueueRef
): Result.Result<{ readonly name: string; readonly store: QueueStore }, InvalidInput> => {
  const name = typeof ref === "string" ? ref : ref.queue
  const shared = typeof ref === "string" ? false : ref.shared === true
  return Result.map(checkName("queue name", name), () => ({
    name,
    store: engine.open({ queue: name, shared })
  }))
}

/** `queueOf`, failing in an effect. */
export const openQueue = (
  engine: QueueEngine,
  ref: QueueRef
): Effect.Effect<{ readonly name: string; readonly store: QueueStore }, InvalidInput> =>
  Effect.suspend(() => Effect.fromResult(queueOf(engine, ref)))
