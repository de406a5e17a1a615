/** What a job is: its name, what goes in, what comes out, and how it is run. */
import { type Duration, Effect, Schema } from "effect"
import type { WireSchema } from "./internal/codec.ts"
import { notWaitable, waitableMillis } from "./internal/duration.ts"
import { InvalidInput } from "./RedisError.ts"

/** How long to wait before the next attempt. Plain data, so that it can travel with a job. */
export type Backoff =
  | { readonly kind: "fixed"; readonly delay: Duration.Input }
  | {
    readonly kind: "exponential"
    /** The delay after the first failure; each further one takes `factor` times as long. */
    readonly delay: Duration.Input
    /** Default: 2. */
    readonly factor?: number | undefined
    /** Default: 1 hour. */
    readonly max?: Duration.Input | undefined
    /** Which part of each delay is random, from 0 to 1: spreads the retries of jobs that failed together. Default: 0. */
    readonly jitter?: number | undefined
  }

/** How a job is run unless `enqueue` says otherwise. */
export interface JobDefaults {
  /** How often it may fail before it is a dead letter, the first attempt included. Default: 5. */
  readonly attempts?: number | undefined
  /** Default: exponential from 1 second up to 1 hour, half of it random. */
  readonly backoff?: Backoff | undefined
  /** How long one attempt may take; then it is interrupted and counts as failed. Default: no limit. */
  readonly timeout?: Duration.Input | undefined
  /** 0 runs first, 9 last. Default: 5. */
  readonly priority?: number | undefined
}

/** A kind of job. `Payload`, `Success` and `Failure` are what its schemas say. */
export interface Job<in out Name extends string, in out Payload, in out Success, in out Failure> {
  readonly name: Name
  /** The queue that its jobs wait in. */
  readonly queue: string
  /** Whether the queue belongs to all services on this Redis, rather than to one namespace. */
  readonly shared: boolean
  /** How many partitions the queue has. */
  readonly partitions: number
  readonly payload: WireSchema<Payload>
  readonly success: WireSchema<Success>
  readonly error: WireSchema<Failure>
  readonly defaults: JobDefaults
  /** Says how to run it, for `JobWorker.layer`. An error that `error` does not name has to be handled in `run`. */
  readonly handler: <R>(
    run: (payload: Payload, context: JobContext) => Effect.Effect<Success, Failure | Postponed, R>
  ) => JobHandler<R>
}

/** A job whose types do not matter here. `any` is everything but `never`, which is what a job without errors has. */
export type AnyJob = Job<any, any, any, any> | Job<any, any, any, never>

/** What a handler may want to know of the job that it runs. */
export interface JobContext {
  readonly id: string
  readonly queue: string
  /** This attempt, from 1. */
  readonly attempt: number
  /** How many attempts it has in all. */
  readonly attempts: number
  readonly tenant: string | undefined
  readonly tags: ReadonlyArray<string>
  /** When it was enqueued, by the producer's clock, in milliseconds since 1970. */
  readonly enqueuedAt: number
  /**
   * Grows with each claim of this job. A write elsewhere that carries it can be refused when a later claim has written
   * already. Jobs of a queue that are claimed together share it.
   */
  readonly fencingToken: number
}

/** A job with the code that runs it. */
export interface JobHandler<out R> {
  readonly job: AnyJob
  readonly run: (payload: any, context: JobContext) => Effect.Effect<any, any, R>
}

/** A handler's wish to run the job later. It does not count as an attempt. */
export class Postponed extends Schema.TaggedError<Postponed>()("Postponed", {
  delayMillis: Schema.Finite
}) {}

/**
 * Ends this run of a job and puts it back for later, without using an attempt: when what it needs is busy. A delay that
 * is negative or infinite is a defect, and does use one.
 *
 * @example
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { Job } from "effect-redis-kit"
 *
 * const Sync = Job.make("sync", { payload: Schema.Struct({ account: Schema.String }) })
 *
 * export const handler = Sync.handler(({ account }) =>
 *   account === "busy" ? Job.postpone("5 seconds") : Effect.log(`Syncing ${account}`)
 * )
 * ```
 */
export const postpone = (delay: Duration.Input): Effect.Effect<never, Postponed> =>
  Effect.suspend(() => {
    const delayMillis = waitableMillis(delay)
    return delayMillis === undefined
      ? Effect.die(new InvalidInput({ input: "delay", problem: notWaitable }))
      : Effect.fail(new Postponed({ delayMillis }))
  })

/**
 * Defines a job. Its name and queue, once in use, stay: jobs that wait are found by them.
 *
 * @example
 * ```ts
 * import { Schema } from "effect"
 * import { Job } from "effect-redis-kit"
 *
 * export const SendWelcome = Job.make("send-welcome", {
 *   payload: Schema.Struct({ to: Schema.String }),
 *   success: Schema.Struct({ messageId: Schema.String }),
 *   attempts: 8,
 *   timeout: "30 seconds"
 * })
 * ```
 *
 * @example
 * A queue that several jobs share, on eight partitions: spread into each definition, so that all say the same.
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { Job, JobQueue } from "effect-redis-kit"
 *
 * export const Ledger = { queue: "ledger", partitions: 8 }
 * export const Book = Job.make("book", { ...Ledger, payload: Schema.Struct({ account: Schema.String, cents: Schema.Int }) })
 * export const Close = Job.make("close", { ...Ledger, payload: Schema.Struct({ account: Schema.String }) })
 *
 * export const program = Effect.gen(function*() {
 *   const queue = yield* JobQueue
 *   yield* queue.enqueue(Book, { account: "ada", cents: 1200 }, { key: "ada" })
 *   yield* queue.enqueue(Close, { account: "ada" }, { key: "ada" })
 *   return yield* queue.counts(Ledger)
 * })
 * ```
 */
export const make = <const Name extends string, Payload, Success = void, Failure = never>(
  name: Name,
  options: {
    readonly payload: WireSchema<Payload>
    /** What a run yields. Default: nothing. */
    readonly success?: WireSchema<Success> | undefined
    /** The errors that callers of `result` are to tell apart. Default: none. */
    readonly error?: WireSchema<Failure> | undefined
    /** The queue its jobs wait in, which several jobs may share. Default: `name`. */
    readonly queue?: string | undefined
    /** Puts the queue into the namespace that all services share. Default: false. */
    readonly shared?: boolean | undefined
    /**
     * Over how many partitions the queue is spread, up to 64: more than one for a queue that is too hot for one Redis
     * Cluster node. All jobs of the queue, in all programs, say the same number. Those with the same `key` are then claimed
     * in order. Default: 1.
     */
    readonly partitions?: number | undefined
  } & JobDefaults
): Job<Name, Payload, Success, Failure> => {
  const { attempts, backoff, error, partitions, payload, priority, queue, shared, success, timeout } = options
  const job: Job<Name, Payload, Success, Failure> = {
    name,
    queue: queue ?? name,
    shared: shared === true,
    partitions: partitions ?? 1,
    payload,
    // Without a schema the type parameter is its default, which is what these decode to.
    success: success ?? (Schema.Void as unknown as WireSchema<Success>),
    error: error ?? (Schema.Never),
    defaults: { attempts, backoff, priority, timeout },
    handler: (run) => ({ job, run })
  }
  return job
}
