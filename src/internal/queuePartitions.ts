/** A queue over its partitions: which one a job is in, and what is asked of all of them. */
import { Effect, Result, type Scope, Stream } from "effect"
import { crc32 } from "node:zlib"
import { RedisError } from "../RedisError.ts"
import { partitionIn } from "./jobId.ts"
import type {
  Change,
  ChangeReply,
  JobSnapshot,
  ListedState,
  NewJob,
  QueueCounts,
  QueueStore,
  Transition
} from "./queueEngine.ts"

/** A queue. Most have one partition; jobs never move to another one. */
export interface Queue {
  readonly name: string
  readonly partitions: ReadonlyArray<QueueStore>
}

/** Where jobs are stored. */
export type JobStore = Pick<QueueStore, "enqueue">

const everywhere = { concurrency: "unbounded" } as const

const partitionOf = (queue: Queue, text: string): QueueStore => queue.partitions[crc32(text) % queue.partitions.length]!

/** Where a job is if it was enqueued without a key. */
const homeOf = (queue: Queue, id: string): QueueStore => {
  if (queue.partitions.length === 1) return queue.partitions[0]!
  const carried = partitionIn(id)
  return (carried === undefined ? undefined : queue.partitions[carried]) ?? partitionOf(queue, id)
}

/** The number of the partition that jobs with `key` are in. */
export const partitionFor = (queue: Queue, key: string): number => queue.partitions.indexOf(partitionOf(queue, key))

/** Where to store jobs: those with a key in its partition, others each where its id belongs. */
export const storeFor = (queue: Queue, jobs: ReadonlyArray<NewJob>, key: string | undefined): JobStore => {
  if (queue.partitions.length === 1) return queue.partitions[0]!
  if (key !== undefined) return partitionOf(queue, key)
  const home = homeOf(queue, jobs[0]!.id)
  return jobs.every(({ id }) => homeOf(queue, id) === home)
    ? home
    : { enqueue: (jobs) => enqueueEach(queue, jobs) }
}

/** Stores each job where its id belongs: in each partition all or none. */
const enqueueEach = (queue: Queue, jobs: ReadonlyArray<NewJob>): Effect.Effect<ReadonlyArray<boolean>, RedisError> => {
  const parts = new Map<QueueStore, Array<NewJob>>()
  for (const job of jobs) {
    const home = homeOf(queue, job.id)
    const part = parts.get(home)
    if (part === undefined) parts.set(home, [job])
    else part.push(job)
  }
  return Effect.flatMap(
    Effect.forEach(parts, ([store, part]) => Effect.result(store.enqueue(part)), everywhere),
    (results) => {
      const isNew = new Map<NewJob, boolean>()
      for (const [i, part] of [...parts.values()].entries()) {
        const result = results[i]!
        if (Result.isFailure(result)) {
          // What went to other partitions may be there.
          const { command, detail, reason } = result.failure
          return Effect.fail(new RedisError({ command, reason, outcome: "Unknown", detail }))
        }
        for (const [place, job] of part.entries()) isNew.set(job, result.success[place]!)
      }
      return Effect.succeed(jobs.map((job) => isNew.get(job)!))
    }
  )
}

/** What is known of a job, and where it is; undefined when nothing is. */
export const locate = (
  queue: Queue,
  id: string
): Effect.Effect<{ readonly store: QueueStore; readonly known: JobSnapshot } | undefined, RedisError> => {
  const home = homeOf(queue, id)
  return Effect.flatMap(home.look(id), (known) =>
    known !== undefined
      ? Effect.succeed({ store: home, known })
      : queue.partitions.length === 1
      ? Effect.undefined
      : locateAway(queue, id))
}

/** `locate` for a job that is not where its id belongs: it may have a key. */
const locateAway = (queue: Queue, id: string) => {
  const others = queue.partitions.filter((store) => store !== homeOf(queue, id))
  return Effect.map(
    Effect.forEach(others, (store) => store.look(id), everywhere),
    (all) => {
      const at = all.findIndex((known) => known !== undefined)
      return at === -1 ? undefined : { store: others[at]!, known: all[at]! }
    }
  )
}

/** Changes a job, wherever it is. */
export const changeJob = (queue: Queue, id: string, change: Change): Effect.Effect<ChangeReply, RedisError> =>
  Effect.filterOrElse(
    homeOf(queue, id).change(id, change),
    (reply) => reply !== "unchanged" || queue.partitions.length === 1,
    (reply) =>
      Effect.flatMap(
        locateAway(queue, id),
        (found) => found === undefined ? Effect.succeed(reply) : found.store.change(id, change)
      )
  )

/** Pauses or resumes all partitions: those that can be reached, also when another one cannot. */
export const setPaused = (queue: Queue, paused: boolean): Effect.Effect<void, RedisError> =>
  Effect.flatMap(
    Effect.forEach(queue.partitions, (store) => Effect.result(store.setPaused(paused)), everywhere),
    (results) => Effect.forEach(results, Effect.fromResult, { discard: true })
  )

/** Counts of all partitions together, each at a moment of its own. Paused: that any of them is. */
export const countsOf = (queue: Queue): Effect.Effect<QueueCounts, RedisError> =>
  queue.partitions.length === 1
    ? queue.partitions[0]!.counts
    : Effect.map(Effect.forEach(queue.partitions, (store) => store.counts, everywhere), (all) => {
      const sum = (count: (counts: QueueCounts) => number) => all.reduce((total, each) => total + count(each), 0)
      const oldest = all.reduce((least, { oldestEnqueuedAt = Infinity }) => Math.min(least, oldestEnqueuedAt), Infinity)
      return {
        waiting: sum(({ waiting }) => waiting),
        delayed: sum(({ delayed }) => delayed),
        active: sum(({ active }) => active),
        failed: sum(({ failed }) => failed),
        finished: sum(({ finished }) => finished),
        paused: all.some(({ paused }) => paused),
        oldestEnqueuedAt: oldest === Infinity ? undefined : oldest
      }
    })

const withinPartition = /^(?:(\d{1,2})\/)?(\d{1,15}(?::\d{1,15})?)?$/

/** Whether `cursor` may be that of a page of `queue`. */
export const isCursor = (queue: Queue, cursor: string): boolean => {
  const found = withinPartition.exec(cursor)
  if (found === null || cursor === "") return false
  return queue.partitions.length === 1 ? found[1] === undefined : Number(found[1]) < queue.partitions.length
}

/** A page of jobs, partition by partition; `cursor` is "" or one of `isCursor`. */
export const listJobs = (
  queue: Queue,
  state: ListedState,
  cursor: string,
  limit: number
): ReturnType<QueueStore["list"]> => {
  if (queue.partitions.length === 1) return queue.partitions[0]!.list(state, cursor, limit)
  return Effect.gen(function*() {
    const [, first = "0", after = ""] = withinPartition.exec(cursor)!
    const jobs: Array<JobSnapshot> = []
    let inner = after
    for (let at = Number(first); at < queue.partitions.length; at++, inner = "") {
      if (jobs.length === limit) return { jobs, next: `${at}/` }
      const page = yield* queue.partitions[at]!.list(state, inner, limit - jobs.length)
      jobs.push(...page.jobs)
      if (page.next !== undefined) return { jobs, next: `${at}/${page.next}` }
    }
    return { jobs, next: undefined }
  })
}

/** Removes all jobs in `states`; yields how many. */
export const drainAll = (
  queue: Queue,
  states: ReadonlyArray<"waiting" | "delayed">
): Effect.Effect<number, RedisError> =>
  Effect.gen(function*() {
    let total = 0
    for (const store of queue.partitions) {
      for (const state of states) {
        let gone: number
        do {
          gone = yield* store.drainSome(state)
          total += Math.max(0, gone)
        } while (gone !== 0)
      }
    }
    return total
  })

/** Lets up to `limit` dead letters run again; yields how many. */
export const replayAll = (queue: Queue, limit: number): Effect.Effect<number, RedisError> =>
  Effect.gen(function*() {
    // All are found before the first one runs again: one that dies anew must not be replayed for ever.
    const found: Array<{ readonly store: QueueStore; readonly id: string }> = []
    for (const store of queue.partitions) {
      let cursor: string | undefined = ""
      while (cursor !== undefined && found.length < limit) {
        const page: Effect.Success<ReturnType<QueueStore["list"]>> = yield* store.list("failed", cursor, 500)
        for (const { id } of page.jobs) found.push({ store, id })
        cursor = page.next
      }
    }
    const replies = yield* Effect.forEach(
      found.slice(0, limit),
      ({ id, store }) => store.change(id, { kind: "retry" }),
      { concurrency: 64 }
    )
    return replies.filter((reply) => reply === "done").length
  })

/** All transitions, from when it returns on; those of one job in order. */
export const transitionsOf = (
  queue: Queue
): Effect.Effect<Stream.Stream<ReadonlyArray<Transition>, RedisError>, RedisError, Scope.Scope> =>
  queue.partitions.length === 1
    ? queue.partitions[0]!.transitions
    : Effect.map(
      Effect.forEach(queue.partitions, (store) => store.transitions, everywhere),
      (streams) => Stream.mergeAll(streams, everywhere)
    )
