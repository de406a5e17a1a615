// What must not compile stands here on purpose.
// @effect-diagnostics missingEffectError:off missingEffectContext:off
import { Context, type Duration, Effect, type Layer, Schema, type Scope, type Stream } from "effect"
import { expectTypeOf, test } from "vitest"
import * as Job from "../../src/Job.ts"
import type { JobCancelled, JobFailed, LeaseLost, ResultExpired, ResultTimeout } from "../../src/JobErrors.ts"
import type { JobCounts, JobEvent, TakenJob } from "../../src/JobInfo.ts"
import { JobQueue, JobQueueLive } from "../../src/JobQueue.ts"
import { JobWorker } from "../../src/JobWorker.ts"
import type { RedisClient } from "../../src/RedisClient.ts"
import type { InvalidInput, RedisError } from "../../src/RedisError.ts"

class Declined extends Schema.TaggedError<Declined>()("Declined", { code: Schema.Finite }) {}
class Other extends Schema.TaggedError<Other>()("Other", {}) {}
class Mailer
  extends Context.Service<Mailer, { readonly send: (to: string) => Effect.Effect<string> }>()("types/Mailer")
{}
class Printer extends Context.Service<Printer, { readonly print: Effect.Effect<void> }>()("types/Printer") {}

const Pay = Job.make("pay", {
  payload: Schema.Struct({ at: Schema.Date, mode: Schema.Literals(["fast", "slow"]) }),
  success: Schema.Struct({ cents: Schema.BigInt }),
  error: Declined
})
const Print = Job.make("print", { payload: Schema.String })

// Nothing here runs: effects are only made.
const queue = Effect.runSync(Effect.scoped(Effect.provide(JobQueue, JobQueue.layerMemory)))
const at = new Date(0)

test("a job's types are what its schemas decode to", () => {
  expectTypeOf(Pay).toEqualTypeOf<
    Job.Job<"pay", { readonly at: Date; readonly mode: "fast" | "slow" }, { readonly cents: bigint }, Declined>
  >()
  expectTypeOf(Print).toEqualTypeOf<Job.Job<"print", string, void, never>>()
  expectTypeOf(Pay).toExtend<Job.AnyJob>()
  expectTypeOf(Print).toExtend<Job.AnyJob>()
})

test("what is enqueued has to be the job's payload", () => {
  expectTypeOf(queue.enqueue(Pay, { at, mode: "fast" })).toEqualTypeOf<
    Effect.Effect<string, InvalidInput | RedisError>
  >()
  expectTypeOf(queue.enqueueAll(Print, ["x"], { ids: ["1"], delay: "5 seconds" })).toEqualTypeOf<
    Effect.Effect<ReadonlyArray<string>, InvalidInput | RedisError>
  >()
  expectTypeOf(queue.enqueueChunks(Print, new Set(["x"]), { key: "account" })).toEqualTypeOf<
    Stream.Stream<ReadonlyArray<string>, InvalidInput | RedisError>
  >()
  const refused = [
    // @ts-expect-error: a date as text is what travels, not what is enqueued
    queue.enqueue(Pay, { at: "1970-01-01", mode: "fast" }),
    // @ts-expect-error: no such mode
    queue.enqueue(Pay, { at, mode: "medium" }),
    // @ts-expect-error: the mode is missing
    queue.enqueueAll(Pay, [{ at }]),
    // @ts-expect-error: numbers are no texts
    queue.enqueueChunks(Print, [1]),
    // @ts-expect-error: chunks that are to be in order have one key
    queue.enqueueChunks(Print, ["x"], { keys: ["1"] }),
    // @ts-expect-error: many jobs cannot share one id
    queue.enqueueAll(Print, ["x"], { id: "1" }),
    // @ts-expect-error: chunks are stored one by one, so that a caller's ids would promise too much
    queue.enqueueChunks(Print, ["x"], { ids: ["1"] }),
    // @ts-expect-error: there is no such backoff
    queue.enqueue(Print, "x", { backoff: { kind: "linear", delay: 1 } })
  ]
  expectTypeOf(refused).toBeArray()
})

test("a result has the job's success and errors, and needs a deadline", () => {
  expectTypeOf(queue.result(Pay, "id", { within: "1 minute" })).toEqualTypeOf<
    Effect.Effect<
      { readonly cents: bigint },
      Declined | JobFailed | JobCancelled | ResultTimeout | ResultExpired | InvalidInput | RedisError
    >
  >()
  expectTypeOf(queue.result(Print, "id", { within: "1 minute" })).toEqualTypeOf<
    Effect.Effect<void, JobFailed | JobCancelled | ResultTimeout | ResultExpired | InvalidInput | RedisError>
  >()
  // @ts-expect-error: waiting for ever is not offered
  expectTypeOf(() => queue.result(Pay, "id")).toBeFunction()
})

test("what is taken is leased to a scope, and settled with the job's own types", () => {
  expectTypeOf(queue.take(Pay, 1, { wait: "5 seconds" })).toEqualTypeOf<
    Effect.Effect<
      ReadonlyArray<
        TakenJob<{ readonly at: Date; readonly mode: "fast" | "slow" }, { readonly cents: bigint }, Declined>
      >,
      InvalidInput | RedisError,
      Scope.Scope
    >
  >()
  const settle = (taken: TakenJob<string, { readonly cents: bigint }, Declined>) => {
    expectTypeOf(taken.complete({ cents: 1n })).toEqualTypeOf<
      Effect.Effect<void, LeaseLost | InvalidInput | RedisError>
    >()
    return [
      // @ts-expect-error: cents are a bigint
      taken.complete({ cents: 1 }),
      // @ts-expect-error: not an error of this job
      taken.fail({ code: 1 })
    ]
  }
  expectTypeOf(settle).toBeFunction()
})

test("a handler may fail with the job's errors only", () => {
  expectTypeOf(Pay.handler(() => Effect.succeed({ cents: 1n }))).toEqualTypeOf<Job.JobHandler<never>>()
  expectTypeOf(Pay.handler(() => Effect.fail(new Declined({ code: 1 })))).toEqualTypeOf<Job.JobHandler<never>>()
  expectTypeOf(Print.handler(() => Job.postpone("1 second"))).toEqualTypeOf<Job.JobHandler<never>>()
  // @ts-expect-error: an error that the job does not name has to be handled
  Pay.handler(() => Effect.fail(new Other()))
  // @ts-expect-error: a job without an error schema has no errors
  Print.handler(() => Effect.fail("no"))
  // @ts-expect-error: the result is something else
  Pay.handler(() => Effect.succeed("paid"))
  Pay.handler(({ at, mode }, context) => {
    expectTypeOf(at).toEqualTypeOf<Date>()
    expectTypeOf(mode).toEqualTypeOf<"fast" | "slow">()
    expectTypeOf(context).toEqualTypeOf<Job.JobContext>()
    return Effect.succeed({ cents: 1n })
  })
})

test("a worker needs what its handlers need, a queue, and no scope", () => {
  const pay = Pay.handler(() =>
    Effect.gen(function*() {
      yield* Effect.addFinalizer(() => Effect.void)
      yield* Effect.flatMap(Mailer, (mailer) => mailer.send("x"))
      return { cents: 1n }
    })
  )
  const print = Print.handler(() => Effect.flatMap(Printer, (printer) => printer.print))
  const worker = JobWorker.layer([pay, print], { concurrency: 4 })
  expectTypeOf(worker).toEqualTypeOf<Layer.Layer<JobWorker, InvalidInput, JobQueue | Mailer | Printer>>()
  expectTypeOf(JobWorker.layer([Print.handler(() => Effect.void)])).toEqualTypeOf<
    Layer.Layer<JobWorker, InvalidInput, JobQueue>
  >()
  // @ts-expect-error: the mailer and the printer are missing
  expectTypeOf(worker).toExtend<Layer.Layer<JobWorker, InvalidInput, JobQueue>>()
})

test("a program without a layer for its queue does not run", () => {
  const program = Effect.flatMap(JobQueue, (jobs) => jobs.enqueue(Print, "x"))
  // @ts-expect-error: nobody provides the queue
  const run = () => Effect.runPromise(program)
  const runOnMemory = () => Effect.runPromise(Effect.provide(program, JobQueue.layerMemory))
  expectTypeOf(run).toBeFunction()
  expectTypeOf(runOnMemory).returns.toEqualTypeOf<Promise<string>>()
  expectTypeOf(JobQueueLive).toEqualTypeOf<Layer.Layer<JobQueue, never, RedisClient>>()
  expectTypeOf(JobQueue.layer({ maxCrashes: 5 })).toEqualTypeOf<Layer.Layer<JobQueue, InvalidInput, RedisClient>>()
  expectTypeOf(JobQueue.layerMemory).toEqualTypeOf<Layer.Layer<JobQueue>>()
})

test("queues are named by a text, a job, or both of its parts", () => {
  expectTypeOf(queue.counts(Pay)).toEqualTypeOf<Effect.Effect<JobCounts, InvalidInput | RedisError>>()
  expectTypeOf(queue.counts("pay")).toEqualTypeOf(queue.counts({ queue: "pay", shared: true, partitions: 8 }))
  expectTypeOf(queue.events(Print)).toEqualTypeOf<Stream.Stream<JobEvent, InvalidInput | RedisError>>()
  expectTypeOf<JobCounts["oldestWaiting"]>().toEqualTypeOf<Duration.Duration | undefined>()
  // @ts-expect-error: jobs are listed by the states that there are
  expectTypeOf(queue.list(Print, { state: "done" })).toBeObject()
})
