/** From a payload to a stored job. */
import { Clock, Duration, Effect, Result, Stream } from "effect"
import type { AnyJob, Backoff, Job } from "../Job.ts"
import type { EnqueueOptions } from "../JobInfo.ts"
import { InvalidInput, type RedisError } from "../RedisError.ts"
import { compile } from "./compiledJob.ts"
import { makeIds } from "./jobId.ts"
import { checkEnqueueOptions, checkId } from "./jobOptions.ts"
import type { NewJob, QueueEngine } from "./queueEngine.ts"
import { queueOf } from "./queueOpening.ts"
import { type JobStore, partitionFor, type Queue, storeFor } from "./queuePartitions.ts"
import { emptyMeta, type JobMeta } from "./queueRecord.ts"
import { traced } from "./span.ts"
import { traceparentOf } from "./traceContext.ts"

/** How many jobs are stored as one. */
const atomicallyAtMost = 1000
/** How long their payloads may be together: a call holds up the server for as long as it takes to read. */
const atomicallyAtMostCharacters = 16 * 1024 * 1024

type Options = Omit<EnqueueOptions, "id">

const noOptions: Options = {}

/** The three ways to enqueue. */
export const makeEnqueue = (engine: QueueEngine) => {
  const makeId = makeIds()
  // To spell a queue's keys anew for each job would cost more than the rest of this.
  const queues = new WeakMap<AnyJob, Queue>()
  const cachedQueueOf = (job: AnyJob): Result.Result<Queue, InvalidInput> => {
    const known = queues.get(job)
    if (known !== undefined) return Result.succeed(known)
    return Result.map(queueOf(engine, job), (queue) => {
      queues.set(job, queue)
      return queue
    })
  }
  const nextPartition = makeRotation()
  /** The partition that new ids carry. */
  const partitionOfNew = (queue: Queue, key: string | undefined, count: number, now: number): number | undefined =>
    queue.partitions.length === 1
      ? undefined
      : key === undefined
      ? nextPartition(count, now) % queue.partitions.length
      : partitionFor(queue, key)

  /** In one go: each effect more would cost a tenth of the rest. */
  const prepare = <A, E>(
    job: AnyJob,
    payloads: ReadonlyArray<unknown>,
    options: Options,
    ids: ReadonlyArray<string> | undefined,
    use: (store: JobStore, jobs: ReadonlyArray<NewJob>) => Effect.Effect<A, E>
  ): Effect.Effect<A, E | InvalidInput> =>
    Effect.withFiber<A, E | InvalidInput>((fiber) => {
      const queue = cachedQueueOf(job)
      if (Result.isFailure(queue)) return Effect.fail(queue.failure)
      const now = fiber.getRef(Clock.Clock).currentTimeMillisUnsafe()
      let partition: number | undefined
      const newId = (i: number) => {
        if (i === 0) partition = partitionOfNew(queue.success, options.key, payloads.length, now)
        return makeId(now, partition)
      }
      const made = makeJobs(job, payloads, options, ids, newId, now, traceparentOf(fiber))
      return Result.isSuccess(made)
        ? use(storeFor(queue.success, made.success, options.key), made.success)
        : Effect.fail(made.failure)
    })

  const stored = (store: JobStore, jobs: ReadonlyArray<NewJob>): Effect.Effect<ReadonlyArray<string>, RedisError> =>
    Effect.as(store.enqueue(jobs), jobs.map((each) => each.id))

  const span = <A, E>(effect: Effect.Effect<A, E>, job: AnyJob, count: number) =>
    traced(effect, `send ${job.queue}`, "producer", () => ({
      "messaging.system": "redis",
      "messaging.operation.type": "send",
      "messaging.operation.name": "enqueue",
      "messaging.destination.name": job.queue,
      "messaging.batch.message_count": count
    }))

  return {
    enqueue: <Name extends string, P, A, E>(job: Job<Name, P, A, E>, payload: P, options: EnqueueOptions = noOptions) =>
      span(
        prepare(
          job,
          [payload],
          options,
          options.id === undefined ? undefined : [options.id],
          (store, jobs) => Effect.as(store.enqueue(jobs), jobs[0]!.id)
        ),
        job,
        1
      ),
    enqueueAll: <Name extends string, P, A, E>(
      job: Job<Name, P, A, E>,
      payloads: ReadonlyArray<P>,
      options: Options & { readonly ids?: ReadonlyArray<string> | undefined } = noOptions
    ): Effect.Effect<ReadonlyArray<string>, InvalidInput | RedisError> => {
      if (payloads.length === 0 && (options.ids ?? []).length === 0) return Effect.succeed([])
      return payloads.length > atomicallyAtMost
        ? Effect.fail(
          new InvalidInput({
            input: "batch",
            problem: `it holds more than ${atomicallyAtMost} jobs; enqueueChunks takes any number`
          })
        )
        : span(
          prepare(
            job,
            payloads,
            options,
            options.ids,
            (store, jobs): Effect.Effect<ReadonlyArray<string>, InvalidInput | RedisError> =>
              atomicParts(jobs).length > 1
                ? Effect.fail(
                  new InvalidInput({
                    input: "batch",
                    problem: `its payloads take more than ${atomicallyAtMostCharacters} characters`
                  })
                )
                : stored(store, jobs)
          ),
          job,
          payloads.length
        )
    },
    enqueueChunks: <Name extends string, P, A, E>(
      job: Job<Name, P, A, E>,
      payloads: Iterable<P>,
      options: Options = noOptions
    ) =>
      Stream.fromIterable(payloads).pipe(
        Stream.grouped(atomicallyAtMost),
        Stream.mapEffect((chunk) =>
          prepare(job, chunk, options, undefined, (store, jobs) => Effect.succeed({ store, jobs }))
        ),
        Stream.flatMap(({ jobs, store }) =>
          Stream.mapEffect(
            Stream.fromIterable(atomicParts(jobs)),
            (part) => span(stored(store, part), job, part.length)
          )
        )
      )
  }
}

/** How many new jobs go to one partition in a row: together they take one call. */
const inARow = 100

/** Has new jobs go to one partition after the other: those of a millisecond together, unless they are many. */
const makeRotation = () => {
  let at = crypto.getRandomValues(new Uint16Array(1))[0]!
  let lastMillis = 0
  let left = 0
  return (count: number, now: number): number => {
    if (left <= 0 || now !== lastMillis) {
      at++
      left = inARow
      lastMillis = now
    }
    left -= count
    return at
  }
}

/** Jobs in as few parts as can each be stored as one. */
const atomicParts = (jobs: ReadonlyArray<NewJob>): ReadonlyArray<ReadonlyArray<NewJob>> => {
  const parts: Array<Array<NewJob>> = []
  let characters = Infinity
  for (const job of jobs) {
    characters += job.record.payload.length
    if (characters > atomicallyAtMostCharacters) {
      parts.push([])
      characters = job.record.payload.length
    }
    parts.at(-1)!.push(job)
  }
  return parts
}

const makeJobs = (
  job: AnyJob,
  payloads: ReadonlyArray<unknown>,
  options: Options,
  ids: ReadonlyArray<string> | undefined,
  newId: (place: number) => string,
  now: number,
  trace: string | undefined
): Result.Result<ReadonlyArray<NewJob>, InvalidInput> => {
  const compiled = compile(job)
  if (compiled.problem !== undefined) return Result.fail(compiled.problem)
  if (options !== noOptions) {
    const checked = checkEnqueueOptions(options)
    if (Result.isFailure(checked)) return Result.fail(checked.failure)
  }
  if (ids !== undefined && ids.length !== payloads.length) {
    return Result.fail(new InvalidInput({ input: "ids", problem: "there is not one for each payload" }))
  }
  const encode = compiled.payload.encode
  const priority = options.priority ?? job.defaults.priority ?? 5
  const lifo = options.lifo === true
  const { tenant } = options
  const name = job.name === job.queue ? "" : job.name
  const meta = options === noOptions && trace === undefined ? emptyMeta : metaOf(options, trace)
  const due = options.at !== undefined
    ? { atMillis: options.at }
    : options.delay === undefined
    ? undefined
    : { inMillis: Duration.toMillis(options.delay) }
  const jobs: Array<NewJob> = []
  for (let i = 0; i < payloads.length; i++) {
    const payload = encode(payloads[i])
    if (Result.isFailure(payload)) return Result.fail(payload.failure)
    const id = ids?.[i]
    if (id !== undefined) {
      const checked = checkId("job id", id)
      if (Result.isFailure(checked)) return Result.fail(checked.failure)
    }
    jobs.push({
      id: id ?? newId(i),
      idIsNew: id === undefined,
      due,
      // Spelled out: to spread what they share takes several times as long.
      record: { priority, lifo, enqueuedAt: now, tenant, name, meta, payload: payload.success }
    })
  }
  return Result.succeed(jobs)
}

const metaOf = ({ attempts, backoff, tags, timeout }: Options, trace: string | undefined): JobMeta => {
  const meta: { -readonly [K in keyof JobMeta]: JobMeta[K] } = {}
  if (attempts !== undefined) meta.a = attempts
  if (backoff !== undefined) meta.b = plain(backoff)
  if (timeout !== undefined) meta.t = Duration.toMillis(timeout)
  if (tags !== undefined && tags.length > 0) meta.g = tags
  if (trace !== undefined) meta.tp = trace
  return Object.keys(meta).length === 0 ? emptyMeta : meta
}

// Durations as milliseconds: plain JSON, whatever form the caller chose.
const plain = (backoff: Backoff): Backoff =>
  backoff.kind === "fixed" ? { kind: "fixed", delay: Duration.toMillis(backoff.delay) } : {
    ...backoff,
    delay: Duration.toMillis(backoff.delay),
    ...(backoff.max === undefined ? {} : { max: Duration.toMillis(backoff.max) })
  }
