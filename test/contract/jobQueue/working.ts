/** The job queue's contract: how workers run jobs, and how they stop. */
import { assert } from "@effect/vitest"
import { Context, Deferred, Effect, Fiber, Layer } from "effect"
import * as Job from "../../../src/Job.ts"
import { JobQueue } from "../../../src/JobQueue.ts"
import { JobWorker, type JobWorkerOptions } from "../../../src/JobWorker.ts"
import {
  eventually,
  failingJob,
  moment,
  type Part,
  refuses,
  stateOf,
  textJob,
  untilLength,
  untilState,
  work,
  workUntil
} from "./support.ts"

export const working: Part = (it, engine) => {
  it.effect("runs as many jobs at once as it may, and never more", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      let running = 0
      let most = 0
      let done = 0
      yield* work(engine, [
        Text.handler((text) =>
          Effect.gen(function*() {
            most = Math.max(most, ++running)
            for (let i = 0; i < Number(text) % 4; i++) yield* moment
            running--
            done++
            return text
          })
        )
      ], { concurrency: 7 })
      yield* queue.enqueueAll(Text, Array.from({ length: 150 }, (_, i) => String(i)))
      yield* eventually("all are done", Effect.sync(() => done === 150))
      assert.strictEqual(most, 7)
      yield* eventually("all are reported", Effect.map(queue.counts(Text), ({ active }) => active === 0))
      assert.include(yield* queue.counts(Text), { waiting: 0, finished: 150 })
    }))

  it.effect("tells a handler of its job, and closes the scope of each attempt", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob({ attempts: 4, backoff: { kind: "fixed", delay: 0 } })
      const seen: Array<Job.JobContext> = []
      let open = 0
      yield* work(engine, [
        Text.handler((text, context) =>
          Effect.gen(function*() {
            yield* Effect.acquireRelease(Effect.sync(() => open++), () => Effect.sync(() => open--))
            seen.push(context)
            if (context.attempt < 3) return yield* Effect.die("again")
            return text
          })
        )
      ])
      const before = yield* engine.now
      const id = yield* queue.enqueue(Text, "x", { tenant: "t;\u{1F600}", tags: ["a", "b;\n"] })
      yield* queue.result(Text, id, { within: "1 minute" })
      assert.strictEqual(open, 0)
      assert.lengthOf(seen, 3)
      seen.forEach(({ enqueuedAt, fencingToken, ...context }, i) => {
        assert.deepStrictEqual(context, {
          id,
          queue: Text.queue,
          attempt: i + 1,
          attempts: 4,
          tenant: "t;\u{1F600}",
          tags: ["a", "b;\n"]
        })
        // By the producer's clock, which tests do not move.
        assert.isAtMost(enqueuedAt, before + 60_000)
        if (i > 0) assert.isAbove(fencingToken, seen[i - 1]!.fencingToken)
      })
    }))

  it.effect("hands handlers what they require", () =>
    Effect.gen(function*() {
      class Greeting extends Context.Service<Greeting, string>()("test/Greeting") {}
      const queue = yield* JobQueue
      const Text = textJob()
      const worker = JobWorker.layer([
        Text.handler((text) => Effect.map(Greeting, (greeting) => `${greeting} ${text}`))
      ])
      yield* Layer.build(Layer.provide(worker, Layer.succeed(Greeting, "hello")))
      const id = yield* queue.enqueue(Text, "x")
      assert.strictEqual(yield* queue.result(Text, id, { within: "1 minute" }), "hello x")
    }))

  it.effect("lets running jobs end when it closes, and starts no others", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      const latch = yield* Deferred.make<void>()
      const { close, worker } = yield* workUntil(engine, [
        Text.handler((text) => Effect.as(Deferred.await(latch), text))
      ], { concurrency: 2, shutdown: "1 minute" })
      const ids = yield* queue.enqueueAll(Text, ["a", "b", "c"])
      yield* untilState(Text, ids[1]!, "active")
      yield* eventually("both run", Effect.map(worker.running, (running) => running === 2))
      const closing = yield* Effect.forkChild(close)
      yield* engine.elapse(1)
      const late = yield* queue.enqueue(Text, "late")
      yield* Deferred.succeed(latch, undefined)
      yield* Fiber.join(closing)
      const states = yield* Effect.forEach([...ids, late], (id) => stateOf(Text, id))
      assert.deepStrictEqual(states, ["completed", "completed", "waiting", "waiting"])
    }))

  it.effect("stops to claim from all its queues at once when it closes", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const [First, Second] = [textJob(), textJob()]
      const [first, second] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      const { close, worker } = yield* workUntil(engine, [
        First.handler((text) => Effect.as(Deferred.await(first), text)),
        Second.handler((text) => Effect.as(Deferred.await(second), text))
      ], { concurrency: 1, shutdown: "1 minute" })
      const ids = [yield* queue.enqueue(First, "a"), yield* queue.enqueue(Second, "a")] as const
      yield* eventually("both run", Effect.map(worker.running, (running) => running === 2))
      const closing = yield* Effect.forkChild(close)
      yield* engine.elapse(1)
      const late = [yield* queue.enqueue(First, "late"), yield* queue.enqueue(Second, "late")] as const
      yield* Deferred.succeed(first, undefined)
      yield* untilState(First, ids[0], "completed")
      yield* Deferred.succeed(second, undefined)
      yield* Fiber.join(closing)
      const states = [yield* stateOf(First, late[0]), yield* stateOf(Second, ids[1]), yield* stateOf(Second, late[1])]
      assert.deepStrictEqual(states, ["waiting", "completed", "waiting"])
    }))

  it.effect("gives back what has not ended in time when it closes, without using an attempt", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob({ attempts: 1 })
      const seen: Array<string> = []
      const { close } = yield* workUntil(engine, [
        Text.handler((text) => Effect.onInterrupt(Effect.never, () => Effect.sync(() => seen.push(text))))
      ], { shutdown: "50 millis" })
      const ids = yield* queue.enqueueAll(Text, ["a", "b"])
      for (const id of ids) yield* untilState(Text, id, "active")
      yield* close
      assert.sameMembers(seen, ["a", "b"])
      for (const id of ids) assert.include(yield* queue.get(Text, id), { state: "waiting", attempt: 0 })
      yield* work(engine, [Text.handler((text, { attempt }) => Effect.succeed(`${text} ${attempt}`))])
      const results = yield* Effect.forEach(ids, (id) => queue.result(Text, id, { within: "1 minute" }))
      assert.deepStrictEqual(results, ["a 1", "b 1"])
    }))

  it.effect("calls others than a worker that is closing", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      const latch = yield* Deferred.make<void>()
      const { close } = yield* workUntil(engine, [Text.handler((text) => Effect.as(Deferred.await(latch), text))], {
        poll: "1 hour",
        shutdown: "5 seconds"
      })
      const first = yield* queue.enqueue(Text, "first")
      yield* untilState(Text, first, "active")
      yield* work(engine, [Text.handler((text) => Effect.succeed(`${text}!`))], { poll: "1 hour" })
      yield* engine.elapse(10)
      const closing = yield* Effect.forkChild(close)
      yield* engine.elapse(10)
      for (let i = 0; i < 5; i++) {
        const id = yield* queue.enqueue(Text, "next")
        assert.strictEqual(yield* queue.result(Text, id, { within: "1 minute" }), "next!")
      }
      yield* Deferred.succeed(latch, undefined)
      yield* Fiber.join(closing)
      assert.strictEqual(yield* queue.result(Text, first, { within: "1 minute" }), "first")
    }))

  it.effect("works off several queues, each with its own concurrency", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Stuck = textJob()
      const Text = textJob()
      yield* work(engine, [Stuck.handler(() => Effect.never), Text.handler(Effect.succeed)], { concurrency: 2 })
      yield* queue.enqueueAll(Stuck, ["a", "b", "c"])
      yield* eventually("it is full", Effect.map(queue.counts(Stuck), ({ active }) => active === 2))
      const id = yield* queue.enqueue(Text, "x")
      assert.strictEqual(yield* queue.result(Text, id, { within: "1 minute" }), "x")
      assert.include(yield* queue.counts(Stuck), { waiting: 1, active: 2 })
    }))

  it.effect("refuses options that are out of range, and two handlers of one job", () =>
    Effect.gen(function*() {
      const Text = textJob()
      const handler = Text.handler(Effect.succeed)
      const build = (options: JobWorkerOptions) => Effect.scoped(Layer.build(JobWorker.layer([handler], options)))
      for (const bad of [0, -1, 1.5, NaN, Infinity, 501]) yield* refuses("concurrency", build({ concurrency: bad }))
      for (const bad of [0, 99, -1, NaN, Infinity]) yield* refuses("lease", build({ lease: bad }))
      for (const bad of [0, -1, NaN, Infinity]) yield* refuses("poll", build({ poll: bad }))
      for (const bad of [-1, NaN, Infinity]) yield* refuses("shutdown", build({ shutdown: bad }))
      const twice = Text.handler((text) => Effect.succeed(text))
      yield* refuses("handlers", Effect.scoped(Layer.build(JobWorker.layer([handler, twice]))))
      for (const job of [failingJob({ attempts: 0 }), failingJob({ timeout: -1 }), failingJob({ priority: 10 })]) {
        const layer = JobWorker.layer([job.handler(() => Effect.void)])
        yield* Effect.flip(Effect.scoped(Layer.build(layer)))
      }
      const nameless = Job.make("", { payload: Text.payload, queue: Text.queue })
      yield* refuses("job name", Effect.scoped(Layer.build(JobWorker.layer([nameless.handler(() => Effect.void)]))))
    }))

  it.effect("finds jobs that were there before it", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      const seen: Array<string> = []
      yield* queue.enqueueAll(Text, ["a", "b", "c"])
      yield* work(engine, [Text.handler((text) => Effect.sync(() => (seen.push(text), text)))])
      yield* untilLength(seen, 3)
      assert.deepStrictEqual(seen, ["a", "b", "c"])
    }))
}
