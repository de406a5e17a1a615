/** What the parts of the job queue's contract have in common. */
import type { Vitest } from "@effect/vitest"
import { assert } from "@effect/vitest"
import { Context, type Duration, Effect, Exit, Layer, Schema, Scope, Stream } from "effect"
import * as Job from "../../../src/Job.ts"
import type { JobEvent, JobPage, QueueRef } from "../../../src/JobInfo.ts"
import { JobQueue, type JobQueueOptions } from "../../../src/JobQueue.ts"
import { JobWorker, type JobWorkerOptions } from "../../../src/JobWorker.ts"

/** An engine under test. */
export interface Engine {
  /** Queues with other than the default options. */
  readonly layer: (options: JobQueueOptions) => Layer.Layer<JobQueue, unknown>
  /** Lets time pass for the queue, and a moment for workers to notice. */
  readonly elapse: (duration: Duration.Input) => Effect.Effect<void>
  /** What time it is for the queue. */
  readonly now: Effect.Effect<number>
  /** How workers work unless a test says otherwise. */
  readonly worker: JobWorkerOptions
  /** Several programs stand behind it: none knows how many partitions another one said that a queue has. */
  readonly programs?: "several"
}

export type It = Vitest.MethodsNonLive<JobQueue>

/** One part of the contract. */
export type Part = (it: It, engine: Engine) => void

let count = 0

/** A name that no other test has used. */
export const unique = (name: string): string => `${name} ${++count}`

/** A job of its own queue that takes and yields text. */
export const textJob = (options: Job.JobDefaults & { readonly queue?: string } = {}) =>
  Job.make(unique("text"), { payload: Schema.String, success: Schema.String, ...options })

/** A job that fails with a text that its schema names. */
export const failingJob = (options: Job.JobDefaults & { readonly queue?: string } = {}) =>
  Job.make(unique("failing"), { payload: Schema.String, error: Schema.String, ...options })

/** A job of its own queue of four partitions that takes and yields text, or fails with one. */
export const spreadJob = (options: Job.JobDefaults & { readonly queue?: string; readonly partitions?: number } = {}) =>
  Job.make(unique("spread"), {
    payload: Schema.String,
    success: Schema.String,
    error: Schema.String,
    partitions: 4,
    ...options
  })

/** Ids, or keys, of which each partition has several. */
export const many = Array.from({ length: 40 }, (_, i) => `${i % 2 === 0 ? "even" : "odd"} ${i}`)

const sleep = (millis: number) => Effect.promise(() => new Promise<void>((resolve) => setTimeout(resolve, millis)))

/** A moment of real time, under any clock. */
export const moment = sleep(1)

/** Asks again and again, without moving any clock, until it is so. */
export const eventually = <E, R>(what: string, check: Effect.Effect<boolean, E, R>): Effect.Effect<void, E, R> =>
  Effect.gen(function*() {
    const deadline = performance.now() + 5000
    while (!(yield* check)) {
      if (performance.now() > deadline) assert.fail(`It did not come true: ${what}`)
      yield* moment
    }
  })

/** Until `list` holds `length` items. */
export const untilLength = (list: ReadonlyArray<unknown>, length: number) =>
  eventually(`${length} items`, Effect.sync(() => list.length >= length))

/** A worker until the scope closes. What still runs then is given back at once. */
export const work = <const Handlers extends ReadonlyArray<Job.JobHandler<any>>>(
  { worker }: Engine,
  handlers: Handlers,
  options: JobWorkerOptions = {}
) =>
  Effect.map(
    Layer.build(Layer.orDie(JobWorker.layer(handlers, { shutdown: 20, ...worker, ...options }))),
    (built) => Context.get(built, JobWorker)
  )

/** `work` in a scope that `close` closes, or the test's. */
export const workUntil = <const Handlers extends ReadonlyArray<Job.JobHandler<any>>>(
  engine: Engine,
  handlers: Handlers,
  options?: JobWorkerOptions
) =>
  Effect.gen(function*() {
    const scope = yield* Scope.fork(yield* Scope.Scope)
    const worker = yield* Scope.provide(work(engine, handlers, options), scope)
    return { worker, close: Scope.close(scope, Exit.void) }
  })

export const stateOf = (queue: QueueRef, id: string) =>
  Effect.flatMap(JobQueue, (jobs) => Effect.map(jobs.get(queue, id), (info) => info?.state))

export const untilState = (queue: QueueRef, id: string, state: string) =>
  eventually(`${id} is ${state}`, Effect.map(stateOf(queue, id), (current) => current === state))

/** All pages of a state, and how many there were. */
export const listAll = (queue: QueueRef, state: Parameters<JobQueue["Service"]["list"]>[1]["state"], limit: number) =>
  Effect.gen(function*() {
    const jobs = yield* JobQueue
    const found: Array<JobPage["jobs"][number]> = []
    let cursor: string | undefined
    do {
      const page: JobPage = yield* jobs.list(queue, { state, limit, cursor })
      assert.isAtMost(page.jobs.length, limit)
      found.push(...page.jobs)
      cursor = page.next
    } while (cursor !== undefined)
    return found
  })

/** What another job of the same queue says of it. */
const definitionOf = (ref: QueueRef) => {
  const { partitions, queue, shared }: Exclude<QueueRef, string> = typeof ref === "string" ? { queue: ref } : ref
  return { partitions, queue, shared }
}

/** Lets a step be taken that claims nothing, so that what is due is promoted, reaped and swept. */
export const stepOnce = (queue: QueueRef) =>
  Effect.gen(function*() {
    const jobs = yield* JobQueue
    const { paused } = yield* jobs.counts(queue)
    yield* jobs.pause(queue)
    yield* Effect.scoped(jobs.take(Job.make("nothing", { payload: Schema.Unknown, ...definitionOf(queue) }), 1))
    if (!paused) yield* jobs.resume(queue)
  })

/** All events of a queue from now on. Returns when they are live. */
export const recordEvents = (queue: QueueRef) =>
  Effect.gen(function*() {
    const jobs = yield* JobQueue
    const all: Array<JobEvent> = []
    yield* Effect.forkScoped(
      Stream.runForEach(jobs.events(queue), (event) => Effect.sync(() => all.push(event)))
    )
    const Probe = Job.make("probe", { payload: Schema.Void, ...definitionOf(queue) })
    yield* eventually(
      "events are live",
      Effect.gen(function*() {
        const id = yield* jobs.enqueue(Probe, undefined, { id: unique("probe"), delay: "999 days" })
        yield* jobs.remove(queue, id)
        yield* moment
        return all.length > 0
      })
    )
    const seen = () => all.filter(({ id }) => !id.startsWith("probe"))
    return {
      seen,
      kindsOf: (id: string) => seen().filter((event) => event.id === id).map(({ kind }) => kind)
    }
  })

/** Fails with `InvalidInput` that names `input`. */
export const refuses = <A, E, R>(input: string, effect: Effect.Effect<A, E, R>): Effect.Effect<void, A, R> =>
  Effect.map(Effect.flip(effect), (error: unknown) => {
    assert.include(error as object, { _tag: "InvalidInput", input })
  })
