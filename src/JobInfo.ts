/** What one says of a job when it is enqueued, and what is known of it afterwards. */
import type { Duration, Effect } from "effect"
import type { JobState, TransitionKind } from "./internal/queueEngine.ts"
import type { AnyJob, Backoff } from "./Job.ts"
import type { JobFailureReason, LeaseLost } from "./JobErrors.ts"
import type { InvalidInput, RedisError } from "./RedisError.ts"

export type { JobState, TransitionKind } from "./internal/queueEngine.ts"

/**
 * A queue by name, or the one of a job. Where no number of partitions is given, it is that of the jobs of this queue which
 * this program has used before, or 1: to ask for all of a partitioned queue from elsewhere, say how many it has.
 */
export type QueueRef = string | AnyJob | {
  readonly queue: string
  readonly shared?: boolean | undefined
  /** As in `Job.make`. */
  readonly partitions?: number | undefined
}

/** How one job is to be run, where it differs from its definition. */
export interface EnqueueOptions {
  /**
   * Up to 256 bytes without control characters. Enqueueing an id again while the job or its outcome is known does
   * nothing. Default: a new id.
   *
   * In a partitioned queue an id is unique together with its `key`, or without one: an id always goes with the same key,
   * most simply by beginning with it. What else happens to an id with two keys is open (one job or two, of which either
   * is found).
   */
  readonly id?: string | undefined
  /**
   * What the job is about, like an account: in a partitioned queue, jobs with the same key are in one partition, and
   * claimed in the order of their enqueueing; elsewhere all jobs are claimed in that order. Workers run several at once,
   * also of one key: see "Order" in docs/queue.md. Up to 256 bytes without control characters.
   */
  readonly key?: string | undefined
  /** How long it waits before it may run. */
  readonly delay?: Duration.Input | undefined
  /** When it may run, in milliseconds since 1970 by the server's clock; instead of `delay`. */
  readonly at?: number | undefined
  /** 0 runs first, 9 last. */
  readonly priority?: number | undefined
  /** Goes to the front of its priority. Default: false. */
  readonly lifo?: boolean | undefined
  readonly attempts?: number | undefined
  readonly backoff?: Backoff | undefined
  readonly timeout?: Duration.Input | undefined
  /** Whose job it is; events carry it. Up to 256 bytes without control characters. */
  readonly tenant?: string | undefined
  readonly tags?: ReadonlyArray<string> | undefined
}

/** What is known of a job. */
export interface JobInfo {
  readonly id: string
  readonly name: string
  readonly state: JobState
  /** The attempt that runs, or ran last; 0 before the first. */
  readonly attempt: number
  readonly priority: number | undefined
  readonly tenant: string | undefined
  readonly tags: ReadonlyArray<string>
  /** In milliseconds since 1970, by the producer's clock; undefined once the job has ended well. */
  readonly enqueuedAt: number | undefined
  /** When a delayed job is due, in milliseconds since 1970. */
  readonly dueAt: number | undefined
  /** In milliseconds since 1970, by the server's clock. */
  readonly finishedAt: number | undefined
  /** The payload as it was encoded; undefined once the job has ended well. */
  readonly payload: unknown
  /** Of the last attempt that failed. */
  readonly failure: { readonly reason: typeof JobFailureReason.Type; readonly detail: string } | undefined
}

/** A step in a job's life. `stalled`: its holder went away, and it runs again. */
export interface JobEvent {
  readonly kind: TransitionKind
  readonly id: string
  readonly queue: string
  readonly tenant: string | undefined
  /** In milliseconds since 1970, by the server's clock. */
  readonly at: number
}

/** How many jobs of a queue are in each state. */
export interface JobCounts {
  readonly waiting: number
  readonly delayed: number
  readonly active: number
  /** Dead letters. */
  readonly failed: number
  /** Completed and cancelled ones whose outcomes are kept. */
  readonly finished: number
  readonly paused: boolean
  /** For how long the oldest waiting job has waited. */
  readonly oldestWaiting: Duration.Duration | undefined
}

/** A page of jobs; `next` is the cursor of the next one. */
export interface JobPage {
  readonly jobs: ReadonlyArray<JobInfo>
  readonly next: string | undefined
}

/** A job that was taken by hand. Its lease is kept until it is settled or the scope closes, which gives it back. */
export interface TakenJob<out Payload, in Success, in Failure> {
  readonly id: string
  readonly payload: Payload
  readonly attempt: number
  readonly fencingToken: number
  readonly complete: (result: Success) => Effect.Effect<void, LeaseLost | InvalidInput | RedisError>
  /** Counts as a failed attempt; it is tried again, or becomes a dead letter. */
  readonly fail: (error: Failure) => Effect.Effect<void, LeaseLost | InvalidInput | RedisError>
  /** Gives it back without using an attempt. */
  readonly release: (
    options?: { readonly delay?: Duration.Input | undefined }
  ) => Effect.Effect<void, LeaseLost | InvalidInput | RedisError>
}
