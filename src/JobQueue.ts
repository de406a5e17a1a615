/** Jobs that wait to be done: enqueue, look at, control. `JobWorker` does them. */
import { Clock, Config, Context, Duration, Effect, Layer, type Scope, Stream } from "effect"
import { makeEnqueue } from "./internal/jobEnqueue.ts"
import { checkId, checkReason, checkReplayLimit } from "./internal/jobOptions.ts"
import { toInfo } from "./internal/jobReading.ts"
import { makeResult } from "./internal/jobResult.ts"
import { makeTake } from "./internal/jobTake.ts"
import { attachEngine, type QueueEngine, type QueueSettings } from "./internal/queueEngine.ts"
import { makeMemoryEngine } from "./internal/queueMemory.ts"
import { openQueue } from "./internal/queueOpening.ts"
import {
  changeJob,
  countsOf,
  drainAll,
  isCursor,
  listJobs,
  locate,
  type Queue,
  replayAll,
  setPaused,
  transitionsOf
} from "./internal/queuePartitions.ts"
import { makeRedisEngine } from "./internal/queueRedis.ts"
import { defaults, type JobQueueOptions, settingsOf } from "./internal/queueSettings.ts"
import { watchReplicas } from "./internal/replicasProbe.ts"
import { traced } from "./internal/span.ts"
import { warnAtStart } from "./internal/startWarnings.ts"
import type { Job } from "./Job.ts"
import type { JobCancelled, JobFailed, ResultExpired, ResultTimeout } from "./JobErrors.ts"
import type { EnqueueOptions, JobCounts, JobEvent, JobInfo, JobPage, QueueRef, TakenJob } from "./JobInfo.ts"
import { RedisClient } from "./RedisClient.ts"
import { InvalidInput, type RedisError } from "./RedisError.ts"

export type { JobQueueOptions } from "./internal/queueSettings.ts"

/**
 * Typed jobs that survive whatever dies. A job that `enqueue` has acknowledged runs to its end at least once: a claim is
 * a lease by the server's clock, and whoever lost it can neither acknowledge nor go on.
 *
 * @example
 * ```ts
 * import { Effect, Layer, Schema } from "effect"
 * import { Job, JobQueue, JobWorker } from "effect-redis-kit"
 *
 * const SendWelcome = Job.make("send-welcome", {
 *   payload: Schema.Struct({ to: Schema.String }),
 *   success: Schema.String
 * })
 *
 * const worker = JobWorker.layer([SendWelcome.handler(({ to }) => Effect.succeed(`welcomed ${to}`))])
 *
 * export const program = Effect.gen(function*() {
 *   const queue = yield* JobQueue
 *   const id = yield* queue.enqueue(SendWelcome, { to: "ada@example.com" })
 *   return yield* queue.result(SendWelcome, id, { within: "1 minute" })
 * }).pipe(Effect.provide(Layer.provideMerge(worker, JobQueue.layerMemory)))
 * ```
 */
export class JobQueue extends Context.Service<JobQueue, {
  /** Stores a job and yields its id. Once it returns, the job runs. Safe to repeat with an `id` of one's own. */
  readonly enqueue: <Name extends string, P, A, E>(
    job: Job<Name, P, A, E>,
    payload: NoInfer<P>,
    options?: EnqueueOptions
  ) => Effect.Effect<string, InvalidInput | RedisError>
  /**
   * Stores up to 1,000 jobs (16 Mi characters), all or none, and yields their ids. More fail with `InvalidInput`. Those
   * with `ids` and without a `key` go to several partitions, where there are any: in each of these all or none.
   */
  readonly enqueueAll: <Name extends string, P, A, E>(
    job: Job<Name, P, A, E>,
    payloads: ReadonlyArray<NoInfer<P>>,
    options?: Omit<EnqueueOptions, "id"> & { readonly ids?: ReadonlyArray<string> | undefined }
  ) => Effect.Effect<ReadonlyArray<string>, InvalidInput | RedisError>
  /** Stores any number of jobs, in chunks of which each is stored whole; yields the ids of each chunk once it is. */
  readonly enqueueChunks: <Name extends string, P, A, E>(
    job: Job<Name, P, A, E>,
    payloads: Iterable<NoInfer<P>>,
    options?: Omit<EnqueueOptions, "id">
  ) => Stream.Stream<ReadonlyArray<string>, InvalidInput | RedisError>
  /** Waits for a job's end, for `within` at most: its result, the error it failed with, or why there is neither. */
  readonly result: <Name extends string, P, A, E>(
    job: Job<Name, P, A, E>,
    id: string,
    options: { readonly within: Duration.Input }
  ) => Effect.Effect<A, E | JobFailed | JobCancelled | ResultTimeout | ResultExpired | InvalidInput | RedisError>
  /** What happens to the jobs of a queue, in any process, while the stream runs. Slow readers lose the oldest. */
  readonly events: (queue: QueueRef) => Stream.Stream<JobEvent, InvalidInput | RedisError>
  /** `events`, which returns once they are live: the stream, run once, misses nothing that happens afterwards. */
  readonly eventsScoped: (
    queue: QueueRef
  ) => Effect.Effect<Stream.Stream<JobEvent, RedisError>, InvalidInput | RedisError, Scope.Scope>
  /** What is known of a job; undefined when nothing is. */
  readonly get: (queue: QueueRef, id: string) => Effect.Effect<JobInfo | undefined, InvalidInput | RedisError>
  /**
   * A page of jobs in one state (`finished`: completed or cancelled, newest first), 50 unless `limit` says otherwise.
   * Where there are partitions, one comes after the other.
   */
  readonly list: (
    queue: QueueRef,
    options: {
      readonly state: "waiting" | "delayed" | "active" | "failed" | "finished"
      readonly cursor?: string | undefined
      readonly limit?: number | undefined
    }
  ) => Effect.Effect<JobPage, InvalidInput | RedisError>
  readonly counts: (queue: QueueRef) => Effect.Effect<JobCounts, InvalidInput | RedisError>
  /** How many jobs wait, delayed ones included. */
  readonly size: (queue: QueueRef) => Effect.Effect<number, InvalidInput | RedisError>
  /**
   * Ends a job that has not ended. `cancelled`: it will not run. `requested`: it runs, here or in another process, and is
   * being interrupted. `unchanged`: it has ended already, or is unknown.
   */
  readonly cancel: (
    queue: QueueRef,
    id: string,
    options?: { readonly reason?: string | undefined }
  ) => Effect.Effect<"cancelled" | "requested" | "unchanged", InvalidInput | RedisError>
  /** Forgets a job that is not running; false when there is none. */
  readonly remove: (queue: QueueRef, id: string) => Effect.Effect<boolean, InvalidInput | RedisError>
  /** Lets a dead letter run again, with all its attempts; false when it is none. */
  readonly retry: (queue: QueueRef, id: string) => Effect.Effect<boolean, InvalidInput | RedisError>
  /** Lets dead letters run again; yields how many. */
  readonly replay: (
    queue: QueueRef,
    options?: { readonly limit?: number | undefined }
  ) => Effect.Effect<number, InvalidInput | RedisError>
  /** Lets a delayed job run now; false when it is not delayed. */
  readonly promote: (queue: QueueRef, id: string) => Effect.Effect<boolean, InvalidInput | RedisError>
  /** No further job of the queue starts, in any process. What runs, runs on. */
  readonly pause: (queue: QueueRef) => Effect.Effect<void, InvalidInput | RedisError>
  readonly resume: (queue: QueueRef) => Effect.Effect<void, InvalidInput | RedisError>
  /** Removes all jobs that wait, and delayed ones if asked; yields how many. */
  readonly drain: (
    queue: QueueRef,
    options?: { readonly delayed?: boolean | undefined }
  ) => Effect.Effect<number, InvalidInput | RedisError>
  /** Removes all jobs that wait, delayed ones included; yields how many. */
  readonly clear: (queue: QueueRef) => Effect.Effect<number, InvalidInput | RedisError>
  /**
   * Leases up to `count` jobs to the scope, without a worker. With `wait`, it waits so long for the first. A job whose
   * payload does not decode becomes a dead letter and is not among them. It looks behind up to 1,000 jobs of other kinds
   * on the same queue, which it gives back for a second.
   */
  readonly take: <Name extends string, P, A, E>(
    job: Job<Name, P, A, E>,
    count: number,
    options?: { readonly wait?: Duration.Input | undefined; readonly lease?: Duration.Input | undefined }
  ) => Effect.Effect<ReadonlyArray<TakenJob<P, A, E>>, InvalidInput | RedisError, Scope.Scope>
}>()("effect-redis-kit/JobQueue") {
  /** Queues on Redis. Fails when an option is out of range. */
  static readonly layer = (options: JobQueueOptions = {}): Layer.Layer<JobQueue, InvalidInput, RedisClient> =>
    Layer.effect(this, Effect.flatMap(Effect.fromResult(settingsOf(options)), makeLive))

  /** `layer` with options read from the configuration. */
  static readonly layerConfig = (
    options: Config.Wrap<JobQueueOptions>
  ): Layer.Layer<JobQueue, InvalidInput | Config.ConfigError, RedisClient> =>
    Layer.unwrap(Effect.map(Config.unwrap(options), (options) => this.layer(options)))

  /** Queues in this process, gone with it. Time is Effect's, so that a test moves it. */
  static readonly layerMemory: Layer.Layer<JobQueue> = Layer.sync(this, () => makeMemory(defaults))

  /** `layerMemory` with other than the default options. Fails when one is out of range. */
  static readonly layerMemoryWith = (options: JobQueueOptions): Layer.Layer<JobQueue, InvalidInput> =>
    Layer.effect(this, Effect.map(Effect.fromResult(settingsOf(options)), makeMemory))
}

/** Queues on Redis, with default options. */
export const JobQueueLive: Layer.Layer<JobQueue, never, RedisClient> = Layer.effect(
  JobQueue,
  Effect.suspend(() => makeLive(defaults))
)

const makeLive = (settings: QueueSettings) =>
  Effect.gen(function*() {
    const client = yield* RedisClient
    const engine = yield* makeRedisEngine(client, settings)
    yield* warnAtStart(client, "jobs")
    yield* watchReplicas(client, "jobs", settings.replicas)
    return attachEngine(JobQueue.of(make(engine)), engine)
  })

const makeMemory = (settings: QueueSettings): JobQueue["Service"] => {
  const engine = makeMemoryEngine(settings)
  return attachEngine(JobQueue.of(make(engine)), engine)
}

/** How many jobs a page holds. */
const listAtMost = 1000

const make = (engine: QueueEngine): JobQueue["Service"] => {
  const on = <A, E>(
    operation: string,
    ref: QueueRef,
    f: (queue: Queue) => Effect.Effect<A, E>
  ): Effect.Effect<A, E | InvalidInput> =>
    traced(
      Effect.flatMap(openQueue(engine, ref), f),
      `JobQueue.${operation}`,
      "client",
      () => ({ "messaging.system": "redis", "messaging.operation.name": operation })
    )
  const onJob = <A, E>(
    operation: string,
    ref: QueueRef,
    id: string,
    f: (queue: Queue) => Effect.Effect<A, E>
  ): Effect.Effect<A, E | InvalidInput> =>
    on(operation, ref, (queue) => Effect.flatMap(Effect.fromResult(checkId("job id", id)), () => f(queue)))
  const change = (kind: "remove" | "retry" | "promote") => (ref: QueueRef, id: string) =>
    onJob(kind, ref, id, (queue) => Effect.map(changeJob(queue, id, { kind }), (reply) => reply === "done"))

  const eventsScoped: JobQueue["Service"]["eventsScoped"] = Effect.fnUntraced(function*(ref) {
    const queue = yield* openQueue(engine, ref)
    return Stream.flattenIterable(
      Stream.map(
        yield* transitionsOf(queue),
        (transitions) => transitions.map((transition): JobEvent => ({ ...transition, queue: queue.name }))
      )
    )
  })

  return {
    ...makeEnqueue(engine),
    result: makeResult(engine),
    take: makeTake(engine),
    events: (ref) => Stream.unwrap(eventsScoped(ref)),
    eventsScoped,
    get: (ref, id) =>
      onJob(
        "get",
        ref,
        id,
        (queue) =>
          Effect.map(locate(queue, id), (found) => found === undefined ? undefined : toInfo(found.known, queue.name))
      ),
    list: (ref, { cursor, limit = 50, state }) =>
      !(Number.isInteger(limit) && limit > 0 && limit <= listAtMost)
        ? Effect.fail(
          new InvalidInput({ input: "limit", problem: `it is not a whole number from 1 to ${listAtMost}` })
        )
        : on("list", ref, (queue): Effect.Effect<JobPage, InvalidInput | RedisError> =>
          cursor !== undefined && !isCursor(queue, cursor)
            ? Effect.fail(new InvalidInput({ input: "cursor", problem: "no page has given it" }))
            : Effect.map(
              listJobs(queue, state, cursor ?? "", limit),
              ({ jobs, next }): JobPage => ({
                jobs: jobs.map((job) =>
                  toInfo(job, queue.name)
                ),
                next
              })
            )),
    counts: (ref) =>
      on("counts", ref, (queue) =>
        Effect.gen(function*() {
          const { oldestEnqueuedAt, ...counts } = yield* countsOf(queue)
          const now = yield* Clock.currentTimeMillis
          return {
            ...counts,
            oldestWaiting: oldestEnqueuedAt === undefined
              ? undefined
              : Duration.millis(Math.max(0, now - oldestEnqueuedAt))
          }
        })),
    size: (ref) => on("size", ref, (queue) => Effect.map(countsOf(queue), ({ delayed, waiting }) => waiting + delayed)),
    cancel: (ref, id, { reason = "cancelled" } = {}) =>
      onJob("cancel", ref, id, (queue) =>
        Effect.flatMap(Effect.fromResult(checkReason(reason)), () =>
          Effect.map(
            changeJob(queue, id, { kind: "cancel", reason }),
            (reply) => reply === "done" ? "cancelled" : reply
          ))),
    remove: change("remove"),
    retry: change("retry"),
    promote: change("promote"),
    replay: (ref, { limit = Infinity } = {}) =>
      on(
        "replay",
        ref,
        (queue) =>
          Effect.andThen(Effect.fromResult(checkReplayLimit(limit)), Effect.suspend(() => replayAll(queue, limit)))
      ),
    pause: (ref) => on("pause", ref, (queue) => setPaused(queue, true)),
    resume: (ref) => on("resume", ref, (queue) => setPaused(queue, false)),
    drain: (ref, options) =>
      on("drain", ref, (queue) => drainAll(queue, options?.delayed === true ? ["waiting", "delayed"] : ["waiting"])),
    clear: (ref) => on("clear", ref, (queue) => drainAll(queue, ["waiting", "delayed"]))
  }
}
