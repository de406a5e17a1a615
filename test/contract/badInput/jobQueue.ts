/** The job queue's contract: options and names of any kind, where `jobQueue/input.ts` has single cases. */
import { assert } from "@effect/vitest"
import { type Duration, Effect, Exit, Layer, Schema, Stream } from "effect"
import * as fc from "fast-check"
import * as Job from "../../../src/Job.ts"
import type { EnqueueOptions } from "../../../src/JobInfo.ts"
import { JobQueue, type JobQueueOptions } from "../../../src/JobQueue.ts"
import { JobWorker, type JobWorkerOptions } from "../../../src/JobWorker.ts"
import { type Part, textJob, unique } from "../jobQueue/support.ts"
import { anyName, differentNames, forAll, noDuration, noName, notWhole, refuses } from "./support.ts"

const refusedEnqueue = (input: string, bad: fc.Arbitrary<EnqueueOptions>) => ({ input, bad })

const badOptions = [
  refusedEnqueue("delay", fc.oneof(noDuration, fc.constant<Duration.Input>(4.4e15)).map((delay) => ({ delay }))),
  refusedEnqueue(
    "timeout",
    fc.oneof(noDuration, fc.constantFrom<Duration.Input>(0, Number.MIN_VALUE)).map((timeout) => ({ timeout }))
  ),
  refusedEnqueue(
    "backoff",
    noDuration.chain((delay) =>
      fc.constantFrom<EnqueueOptions>(
        { backoff: { kind: "fixed", delay } },
        { backoff: { kind: "exponential", delay } },
        { backoff: { kind: "exponential", delay: 1, max: delay } }
      )
    )
  ),
  refusedEnqueue("attempts", notWhole(1, 1_000_000).map((attempts) => ({ attempts }))),
  refusedEnqueue("priority", notWhole(0, 9).map((priority) => ({ priority }))),
  refusedEnqueue(
    "at",
    fc.oneof(fc.constantFrom(NaN, Infinity, -1, 8.65e15), fc.double({ max: -1e-9 })).map((at) => ({ at }))
  )
]

export const badInput: Part = (it, engine) => {
  it.effect("refuses whatever is no option of a job, in a call or a definition, and stores nothing", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      for (const { bad, input } of badOptions) {
        yield* forAll(bad, 40, (options) =>
          Effect.gen(function*() {
            yield* refuses(input, queue.enqueue(Text, "x", options), options)
            yield* refuses(input, queue.enqueueAll(Text, ["x", "y"], options), options)
            yield* refuses(input, Stream.runDrain(queue.enqueueChunks(Text, ["x"], options)), options)
            const { at, delay, ...defaults } = options
            if (at !== undefined || delay !== undefined) return
            const defined = Job.make("defined", { payload: Schema.String, queue: Text.queue, ...defaults })
            yield* refuses(input, queue.enqueue(defined, "x"), options)
            yield* refuses(input, Effect.scoped(queue.take(defined, 1)), options)
          }))
      }
      assert.strictEqual(yield* queue.size(Text), 0)
    }))

  it.effect("refuses whatever is no time or number in what is asked of it", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      const id = yield* queue.enqueue(Text, "x")
      yield* forAll(noDuration, 60, (duration) =>
        Effect.gen(function*() {
          yield* refuses("wait", Effect.scoped(queue.take(Text, 1, { wait: duration })), duration)
          yield* refuses("lease", Effect.scoped(queue.take(Text, 1, { lease: duration })), duration)
          yield* refuses("within", queue.result(Text, id, { within: duration }), duration)
        }))
      yield* forAll(notWhole(1, 500), 60, (count) => refuses("count", Effect.scoped(queue.take(Text, count)), count))
      yield* forAll(notWhole(1, 1000), 60, (limit) =>
        refuses("limit", queue.list(Text, { state: "waiting", limit }), limit))
      // Infinity is what it does without a limit.
      const noLimit = notWhole(0, Number.MAX_VALUE).filter((limit) =>
        limit !== Infinity
      )
      yield* forAll(noLimit, 60, (limit) => refuses("limit", queue.replay(Text, { limit }), limit))
      yield* Effect.scoped(Effect.gen(function*() {
        const [taken] = yield* queue.take(Text, 1)
        yield* forAll(noDuration, 60, (delay) => refuses("delay", taken!.release({ delay }), delay))
        yield* taken!.complete("x")
      }))
    }))

  it.effect("refuses whatever is no option of a queue or a worker, before either is there", () =>
    Effect.gen(function*() {
      const Text = textJob()
      const buildQueue = (options: JobQueueOptions) =>
        Effect.scoped(Layer.build(engine.layer(options))) as Effect.Effect<unknown, { readonly _tag: string }>
      yield* forAll(noDuration, 40, (age) =>
        Effect.gen(function*() {
          yield* refuses("retention.age", buildQueue({ retention: { age } }), age)
          yield* refuses("deadLetters.age", buildQueue({ deadLetters: { age } }), age)
        }))
      yield* forAll(notWhole(0, Number.MAX_SAFE_INTEGER), 40, (count) =>
        Effect.gen(function*() {
          yield* refuses("retention.count", buildQueue({ retention: { count } }), count)
          yield* refuses("eventBatches", buildQueue({ eventBatches: count }), count)
          yield* refuses("maxCrashes", buildQueue({ maxCrashes: count === 0 ? -1 : count }), count)
        }))
      yield* forAll(
        notWhole(1, 1000),
        40,
        (count) => refuses("replicas.count", buildQueue({ replicas: { count } }), count)
      )
      yield* forAll(
        fc.oneof(noDuration, fc.constantFrom<Duration.Input>(0, "61 seconds")),
        40,
        (within) => refuses("replicas.within", buildQueue({ replicas: { count: 1, within } }), within)
      )
      const buildWorker = (options: JobWorkerOptions) =>
        Effect.scoped(Layer.build(JobWorker.layer([Text.handler(Effect.succeed)], options)))
      yield* forAll(noDuration, 40, (duration) =>
        Effect.gen(function*() {
          yield* refuses("lease", buildWorker({ lease: duration }), duration)
          yield* refuses("poll", buildWorker({ poll: duration }), duration)
          yield* refuses("shutdown", buildWorker({ shutdown: duration }), duration)
        }))
      yield* forAll(notWhole(1, 500), 40, (n) => refuses("concurrency", buildWorker({ concurrency: n }), n))
      yield* forAll(notWhole(0, 500), 40, (n) => refuses("prefetch", buildWorker({ prefetch: n }), n))
    }))

  it.effect("lets jobs end for as long as was asked for, were it for longer than a timer can wait", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      const id = yield* queue.enqueue(Text, "x")
      let begun = () => {}
      const running = new Promise<void>((resolve) => {
        begun = resolve
      })
      const handler = Text.handler((text) =>
        Effect.promise(() => {
          begun()
          return new Promise<string>((resolve) => setTimeout(() => resolve(text), 50))
        })
      )
      const worker = Layer.build(JobWorker.layer([handler], { ...engine.worker, shutdown: "30 days" }))
      assert.isTrue(Exit.isSuccess(
        yield* Effect.exit(Effect.scoped(Effect.andThen(worker, Effect.promise(() => running))))
      ))
      assert.strictEqual((yield* queue.get(Text, id))?.state, "completed")
    }))

  it.effect("refuses whatever is no name of a queue or a job", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      yield* forAll(noName, 40, (name) =>
        Effect.gen(function*() {
          yield* refuses("queue name", queue.counts(name), name)
          yield* refuses("queue name", Stream.runDrain(queue.events(name)), name)
          const named = Job.make(name, { payload: Schema.String, queue: "fine" })
          yield* refuses("job name", queue.enqueue(named, "x"), name)
          yield* refuses(
            "job name",
            Effect.scoped(Layer.build(JobWorker.layer([named.handler(() => Effect.void)]))),
            name
          )
          const queued = Job.make("fine", { payload: Schema.String, queue: name })
          yield* refuses("queue name", queue.enqueue(queued, "x"), name)
          yield* refuses(
            "queue name",
            Effect.scoped(Layer.build(JobWorker.layer([queued.handler(() => Effect.void)]))),
            name
          )
        }))
    }))

  it.effect("keeps queues apart, and jobs of one queue, whose names differ in anything", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      yield* forAll(differentNames(5), 30, (names) =>
        Effect.gen(function*() {
          for (const name of names) yield* queue.clear(name)
          for (const name of names) yield* queue.enqueue(Job.make(name, { payload: Schema.String }), name)
          for (const name of names) {
            assert.deepStrictEqual(
              (yield* queue.list(name, { state: "waiting" })).jobs.map((job) => [job.name, job.payload]),
              [[name, name]]
            )
            yield* queue.clear(name)
          }
        }))
      yield* forAll(anyName, 40, (name) =>
        Effect.gen(function*() {
          const job = Job.make(name, { payload: Schema.String, success: Schema.String, queue: unique("shared") })
          const id = yield* queue.enqueue(job, name)
          assert.include(yield* queue.get(job, id), { name })
          yield* Effect.scoped(Effect.flatMap(queue.take(job, 1), ([taken]) => taken!.complete(name)))
          assert.strictEqual(yield* queue.result(job, id, { within: "1 minute" }), name)
        }))
    }))

  it.effect("takes an empty batch for none, and one id for each payload", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      assert.deepStrictEqual(yield* queue.enqueueAll(Text, []), [])
      assert.deepStrictEqual(yield* Stream.runCollect(queue.enqueueChunks(Text, [])), [])
      for (const [payloads, ids] of [[[], ["a"]], [["x"], []], [["x"], ["a", "b"]], [["x", "y"], ["a"]]] as const) {
        yield* refuses("ids", queue.enqueueAll(Text, payloads, { ids }), [payloads, ids])
      }
      assert.strictEqual(yield* queue.size(Text), 0)
    }))
}
