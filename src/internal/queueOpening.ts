/** From a queue's name, or a job, to the queue. */
import { Effect, Result } from "effect"
import type { QueueRef } from "../JobInfo.ts"
import { InvalidInput } from "../RedisError.ts"
import { checkName } from "./keys.ts"
import type { QueueEngine } from "./queueEngine.ts"
import type { Queue } from "./queuePartitions.ts"

/** How many partitions a queue may have: each costs an idle worker a call every few seconds. */
const partitionsAtMost = 64

/** What this program has said of its queues' partitions, by engine and queue. */
const queues = new WeakMap<QueueEngine, Map<string, Queue>>()

/**
 * The queue that `ref` names. Fails when no key can be made of the name, and when two say that the queue has different
 * numbers of partitions: what one of them enqueues, the other one would not find.
 */
export const queueOf = (engine: QueueEngine, ref: QueueRef): Result.Result<Queue, InvalidInput> => {
  const { partitions, queue: name, shared }: Exclude<QueueRef, string> = typeof ref === "string" ? { queue: ref } : ref
  const checked = checkName("queue name", name)
  if (Result.isFailure(checked)) return Result.fail(checked.failure)
  const key = `${shared === true ? "shared" : "own"} ${name}`
  const known = queues.get(engine) ?? new Map<string, Queue>()
  const found = known.get(key)
  if (found !== undefined && (partitions === undefined || partitions === found.partitions.length)) {
    return Result.succeed(found)
  }
  const refused = (problem: string) => Result.fail(new InvalidInput({ input: "partitions", problem }))
  if (found !== undefined) {
    return refused(`the queue "${name}" has ${found.partitions.length} elsewhere in this program, not ${partitions}`)
  }
  const count = partitions ?? 1
  if (!(Number.isInteger(count) && count >= 1 && count <= partitionsAtMost)) {
    return refused(`it is not a whole number from 1 to ${partitionsAtMost}`)
  }
  const queue: Queue = {
    name,
    partitions: Array.from(
      { length: count },
      (_, partition) => engine.open({ queue: name, shared: shared === true, partition })
    )
  }
  // Whoever asks for a queue by its name alone does not say how many there are.
  if (partitions !== undefined) queues.set(engine, known.set(key, queue))
  return Result.succeed(queue)
}

/** `queueOf`, failing in an effect. */
export const openQueue = (engine: QueueEngine, ref: QueueRef): Effect.Effect<Queue, InvalidInput> =>
  Effect.suspend(() => Effect.fromResult(queueOf(engine, ref)))
