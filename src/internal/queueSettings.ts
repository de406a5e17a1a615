/** How long queues remember, and how much. */
import { Duration, Result } from "effect"
import { InvalidInput } from "../RedisError.ts"
import { notWaitable, waitableMillis } from "./duration.ts"
import type { QueueSettings } from "./queueEngine.ts"
import { checkOptionalReplicas, type ReplicaOptions } from "./replicas.ts"

/** How long queues remember. */
export interface JobQueueOptions {
  /**
   * The outcomes of completed and cancelled jobs. Default: 1 hour (never less than a minute), and 1,000,000 of them.
   * With its outcome an id is forgotten: a `count` below what ends in a minute may have an `enqueue` whose reply was lost
   * run twice.
   */
  readonly retention?: { readonly age?: Duration.Input | undefined; readonly count?: number | undefined } | undefined
  /** Dead letters. Default: 14 days. */
  readonly deadLetters?: { readonly age?: Duration.Input | undefined } | undefined
  /** How often a job's worker may die before it is a dead letter. Default: 3. */
  readonly maxCrashes?: number | undefined
  /** How many batches of events a queue keeps for those who listen. Default: 2,000. */
  readonly eventBatches?: number | undefined
  /**
   * Has `enqueue` wait until so many replicas have the jobs; it fails as `not-replicated` when they do not in time, though
   * the master has them: they may run, and a repetition with the same ids adds nothing. So a failover to one of these
   * replicas loses no job that was acknowledged; one to another replica may. In memory there is nothing to wait for.
   * Default: it does not wait.
   */
  readonly replicas?: ReplicaOptions | undefined
}

// An id is remembered as long as its outcome: at least for as long as a call for it may be repeated.
const shortestMemoryMillis = 60_000

/** What applies where no option is given. */
export const defaults: QueueSettings = {
  outcomeMillis: Duration.toMillis("1 hour"),
  outcomeCount: 1_000_000,
  deadMillis: Duration.toMillis("14 days"),
  maxCrashes: 3,
  lastChanceMillis: 100,
  eventBatches: 2000,
  replicas: undefined
}

/** Options as engines take them, checked. */
export const settingsOf = (options: JobQueueOptions): Result.Result<QueueSettings, InvalidInput> => {
  const millis = (input: string, duration: Duration.Input | undefined, otherwise: number) => {
    const found = duration === undefined ? otherwise : waitableMillis(duration)
    return found === undefined ? Result.fail(new InvalidInput({ input, problem: notWaitable })) : Result.succeed(found)
  }
  const count = (input: string, found: number, least: number) =>
    Number.isSafeInteger(found) && found >= least
      ? Result.succeed(found)
      : Result.fail(new InvalidInput({ input, problem: `it is not a whole number from ${least}` }))
  const { deadLetters, eventBatches, maxCrashes, retention } = options
  return Result.map(
    Result.all([
      millis("retention.age", retention?.age, defaults.outcomeMillis),
      count("retention.count", retention?.count ?? defaults.outcomeCount, 0),
      millis("deadLetters.age", deadLetters?.age, defaults.deadMillis),
      count("maxCrashes", maxCrashes ?? defaults.maxCrashes, 1),
      count("eventBatches", eventBatches ?? defaults.eventBatches, 0),
      checkOptionalReplicas(options.replicas)
    ]),
    ([outcomeMillis, outcomeCount, deadMillis, maxCrashes, eventBatches, replicas]) => ({
      outcomeMillis: Math.max(shortestMemoryMillis, outcomeMillis),
      outcomeCount,
      deadMillis,
      maxCrashes,
      lastChanceMillis: defaults.lastChanceMillis,
      eventBatches,
      replicas
    })
  )
}
