/** Jobs that wait to be done: enqueue, look at, control. `JobWorker` does them. */
import { Clock, Config, Context, Duration, Effect, Layer, type Scope, Stream } from "effect"
import { makeEnqueue } from "./internal/jobEnqueue.ts"
import { checkId, checkReason, checkReplayLimit } from "./internal/jobOptions.ts"
import { toInfo } from "./internal/jobReading.ts"
import { makeResult } from "./internal/jobResult.ts"
import { makeTake } from "./internal/jobTake.ts"
import { attachEngine, type QueueEngine, type QueueSettings, type QueueStore } from "./internal/queueEngine.ts"
import { makeMemoryEngine } from "./internal/queueMemory.ts"
import { openQueue } from "./internal/queueOpening.ts"
import { makeRedisEngine } from "./internal/queueRedis.ts"
import { defaults, type JobQueueOptions, settingsOf } from "./internal/queueSettings.ts"
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
  /** Stores up to 1,000 jobs (16 Mi characters), all or none, and yields their ids. More fail with `InvalidInput`. */
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
  /** A page of jobs in one state (`finished`: completed or cancelled, newest first), 50 unless `limit` says otherwise. */
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
    return attachEngine(JobQueue.of(make(engine)), engine)
  })

const makeMemory = (settings: QueueSettings): JobQueue["Service"] => {
  const engine = makeMemoryEngine(settings)
  return attachEngine(JobQueue.of(make(engine)), engine)
}

/** How many jobs are stored as one. */
const listAtMost = 1000
const cursorPattern = /^\d{1,15}(?::\d{1,15})?$/

const make = (engine: QueueEngine): JobQueue["Service"] => {
  const on = <A, E>(
    operation: string,
    queue: QueueRef,
    f: (store: QueueStore, name: string) => Effect.Effect<A, E>
  ): Effect.Effect<A, E | InvalidInput> =>
    traced(
      Effect.flatMap(openQueue(engine, queue), ({ name, store }) => f(store, name)),
      `JobQueue.${operation}`,
      "client",
      () => ({ "messaging.system": "redis", "messaging.operation.name": operation })
    )
  const onJob = <A, E>(
    operation: string,
    queue: QueueRef,
    id: string,
    f: (store: QueueStore, name: string) => Effect.Effect<A, E>
  ): Effect.Effect<A, E | InvalidInput> =>
    on(
      operation,
      queue,
      (store, name) => Effect.flatMap(Effect.fromResult(checkId("job id", id)), () => f(store, name))
    )
  const changed = (reply: string) => reply === "done"
  const change = (kind: "remove" | "retry" | "promote") => (queue: QueueRef, id: string) =>
    onJob(kind, queue, id, (store) => Effect.map(store.change(id, { kind }), changed))
  const drain = (store: QueueStore, states: ReadonlyArray<"waiting" | "delayed">) =>
    Effect.gen(function*() {
      let total = 0
      for (const state of states) {
        let gone: number
        do {
          gone = yield* store.drainSome(state)
          total += Math.max(0, gone)
        } while (gone !== 0)
      }
      return total
    })

  const eventsScoped: JobQueue["Service"]["eventsScoped"] = Effect.fnUntraced(function*(queue) {
    const { name, store } = yield* openQueue(engine, queue)
    return Stream.flattenIterable(
      Stream.map(
        yield* store.transitions,
        (transitions) => transitions.map((transition): JobEvent => ({ ...transition, queue: name }))
      )
    )
  })

  return {
    ...makeEnqueue(engine),
    result: makeResult(engine),
    take: makeTake(engine),
    events: (queue) => Stream.unwrap(eventsScoped(queue)),
    eventsScoped,
    get: (queue, id) =>
      onJob(
        "get",
        queue,
        id,
        (store, name) => Effect.map(store.look(id), (known) => known === undefined ? undefined : toInfo(known, name))
      ),
    list: (queue, { cursor, limit = 50, state }) => {
      if (!(Number.isInteger(limit) && limit > 0 && limit <= listAtMost)) {
        return Effect.fail(
          new InvalidInput({ input: "limit", problem: `it is not a whole number from 1 to ${listAtMost}` })
        )
      }
      if (cursor !== undefined && !cursorPattern.test(cursor)) {
        return Effect.fail(new InvalidInput({ input: "cursor", problem: "no page has given it" }))
      }
      return on("list", queue, (store, name) =>
        Effect.map(
          store.list(state, cursor ?? "", limit),
          ({ jobs, next }): JobPage => ({ jobs: jobs.map((job) => toInfo(job, name)), next })
        ))
    },
    counts: (queue) =>
      on("counts", queue, (store) =>
        Effect.gen(function*() {
          const { oldestEnqueuedAt, ...counts } = yield* store.counts
          const now = yield* Clock.currentTimeMillis
          return {
            ...counts,
            oldestWaiting: oldestEnqueuedAt === undefined
              ? undefined
              : Duration.millis(Math.max(0, now - oldestEnqueuedAt))
          }
        })),
    size: (queue) =>
      on("size", queue, (store) => Effect.map(store.counts, (counts) => counts.waiting + counts.delayed)),
    cancel: (queue, id, { reason = "cancelled" } = {}) =>
      onJob("cancel", queue, id, (store) =>
        Effect.flatMap(Effect.fromResult(checkReason(reason)), () =>
          Effect.map(
            store.change(id, { kind: "cancel", reason }),
            (reply) => reply === "done" ? "cancelled" : reply
          ))),
    remove: change("remove"),
    retry: change("retry"),
    promote: change("promote"),
    replay: (queue, { limit = Infinity } = {}) =>
      on("replay", queue, (store) =>
        Effect.gen(function*() {
          yield* Effect.fromResult(checkReplayLimit(limit))
          // All are found before the first one runs again: one that dies anew must not be replayed for ever.
          const ids: Array<string> = []
          let cursor: string | undefined = ""
          while (cursor !== undefined && ids.length < limit) {
            const page: Effect.Success<ReturnType<QueueStore["list"]>> = yield* store.list("failed", cursor, 500)
            for (const job of page.jobs) ids.push(job.id)
            cursor = page.next
          }
          const replies = yield* Effect.forEach(
            ids.slice(0, limit),
            (id) => store.change(id, { kind: "retry" }),
            { concurrency: 64 }
          )
          return replies.filter(changed).length
        })),
    pause: (queue) => on("pause", queue, (store) => store.setPaused(true)),
    resume: (queue) => on("resume", queue, (store) => store.setPaused(false)),
    drain: (queue, options) =>
      on("drain", queue, (store) => drain(store, options?.delayed === true ? ["waiting", "delayed"] : ["waiting"])),
    clear: (queue) => on("clear", queue, (store) => drain(store, ["waiting", "delayed"]))
  }
}
