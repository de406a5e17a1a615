/** The job queue's contract: how jobs come in, and in which order they run. */
import { assert } from "@effect/vitest"
import { Duration, Effect, Schema, Stream } from "effect"
import * as Job from "../../../src/Job.ts"
import { JobQueue } from "../../../src/JobQueue.ts"
import { eventually, failingJob, type Part, refuses, textJob, unique, untilLength, work } from "./support.ts"

export const enqueueing: Part = (it, engine) => {
  it.effect("runs what was enqueued and hands back the typed result", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Bill = Job.make(unique("bill"), {
        payload: Schema.Struct({ due: Schema.Date, note: Schema.String }),
        success: Schema.Struct({ paid: Schema.Date, cents: Schema.BigInt })
      })
      yield* work(engine, [Bill.handler(({ due, note }) => Effect.succeed({ paid: due, cents: BigInt(note.length) }))])
      const due = new Date(86_400_000)
      const id = yield* queue.enqueue(Bill, { due, note: "\u0000 \n ; \u{1F600}" })
      assert.deepStrictEqual(yield* queue.result(Bill, id, { within: "1 minute" }), { paid: due, cents: 8n })
      const info = yield* queue.get(Bill, id)
      assert.deepInclude(info, { id, name: Bill.name, state: "completed", attempt: 1, failure: undefined })
    }))

  it.effect("hands back the typed error that a job failed with", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      class Broke extends Schema.TaggedError<Broke>()("Broke", { missing: Schema.BigInt }) {}
      const Pay = Job.make(unique("pay"), { payload: Schema.String, error: Broke, attempts: 1 })
      yield* work(engine, [Pay.handler(() => Effect.fail(new Broke({ missing: 7n })))])
      const id = yield* queue.enqueue(Pay, "x")
      const error = yield* Effect.flip(queue.result(Pay, id, { within: "1 minute" }))
      assert.deepStrictEqual(error, new Broke({ missing: 7n }))
      assert.include((yield* queue.get(Pay, id))?.failure, { reason: "error" })
    }))

  it.effect("keeps jobs of several kinds on one queue apart", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const name = unique("mixed")
      const kinds = ["a", "b", name].map((kind) =>
        Job.make(kind, { queue: name, payload: Schema.Finite, success: Schema.String })
      )
      yield* work(engine, kinds.map((kind) => kind.handler((n) => Effect.succeed(`${kind.name} ${n}`))))
      const jobs = Array.from({ length: 60 }, (_, n) => ({ n, kind: kinds[n % 3]! }))
      const ids = yield* Effect.forEach(jobs, ({ kind, n }) => queue.enqueue(kind, n), { concurrency: 7 })
      const results = yield* Effect.forEach(
        jobs,
        ({ kind }, i) => queue.result(kind, ids[i]!, { within: "1 minute" }),
        {
          concurrency: "unbounded"
        }
      )
      assert.deepStrictEqual(results, jobs.map(({ kind, n }) => `${kind.name} ${n}`))
      assert.strictEqual((yield* queue.get(name, ids[0]!))?.name, "a")
    }))

  it.effect("stores many jobs at once, all or none", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Positive = Job.make(unique("positive"), { payload: Schema.Finite.check(Schema.isGreaterThan(0)) })
      const thousand = Array.from({ length: 1000 }, (_, i) => i + 1)
      yield* refuses("payload", queue.enqueueAll(Positive, thousand.with(500, -1)))
      yield* refuses("batch", queue.enqueueAll(Positive, [...thousand, 1]))
      yield* refuses("ids", queue.enqueueAll(Positive, [1, 2], { ids: ["one"] }))
      yield* refuses("job id", queue.enqueueAll(Positive, [1, 2], { ids: ["one", ""] }))
      assert.strictEqual(yield* queue.size(Positive), 0)
      assert.deepStrictEqual(yield* queue.enqueueAll(Positive, []), [])
      const ids = yield* queue.enqueueAll(Positive, thousand)
      assert.strictEqual(new Set(ids).size, 1000)
      assert.strictEqual(yield* queue.size(Positive), 1000)
      const seen: Array<number> = []
      yield* work(engine, [Positive.handler((n) => Effect.sync(() => seen.push(n)))], { concurrency: 1 })
      yield* untilLength(seen, 1000)
      assert.deepStrictEqual(seen, thousand)
    }))

  it.effect("stores any number of jobs in chunks", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      const payloads = Array.from({ length: 2500 }, (_, i) => String(i))
      const chunks = yield* Stream.runCollect(queue.enqueueChunks(Text, payloads, { tenant: "t" }))
      assert.deepStrictEqual(chunks.map((ids) => ids.length), [1000, 1000, 500])
      assert.strictEqual(new Set(chunks.flat()).size, 2500)
      assert.strictEqual(yield* queue.size(Text), 2500)
      assert.deepInclude(yield* queue.get(Text, chunks[2]![499]!), { payload: "2499", tenant: "t" })
    }))

  it.effect("stores large payloads in smaller chunks, and refuses them as one batch that is too large", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      const payloads = Array.from({ length: 20 }, () => "x".repeat(1_000_000))
      yield* refuses("batch", queue.enqueueAll(Text, payloads))
      assert.strictEqual(yield* queue.size(Text), 0)
      const chunks = yield* Stream.runCollect(queue.enqueueChunks(Text, payloads))
      assert.deepStrictEqual(chunks.map((ids) => ids.length), [16, 4])
      assert.strictEqual(yield* queue.clear(Text), 20)
    }))

  it.effect("takes an id once: while its job waits, runs, and is over", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      const again = Effect.gen(function*() {
        assert.strictEqual(yield* queue.enqueue(Text, "second", { id: "order/1" }), "order/1")
        assert.deepStrictEqual(yield* queue.enqueueAll(Text, ["third"], { ids: ["order/1"] }), ["order/1"])
      })
      yield* queue.enqueue(Text, "first", { id: "order/1" })
      yield* again
      assert.strictEqual(yield* queue.size(Text), 1)
      const [job] = yield* queue.take(Text, 5)
      assert.strictEqual(job?.payload, "first")
      yield* again
      assert.strictEqual(yield* queue.size(Text), 0)
      yield* job!.complete("done")
      yield* again
      assert.strictEqual(yield* queue.size(Text), 0)
      assert.strictEqual(yield* queue.result(Text, "order/1", { within: "1 minute" }), "done")
      // Twice in one batch, and at the same moment.
      assert.deepStrictEqual(yield* queue.enqueueAll(Text, ["a", "b"], { ids: ["x", "x"] }), ["x", "x"])
      yield* Effect.all(Array.from({ length: 20 }, () => queue.enqueue(Text, "c", { id: "y" })), {
        concurrency: "unbounded"
      })
      const jobs = yield* queue.take(Text, 5)
      assert.deepStrictEqual(jobs.map(({ payload }) => payload), ["a", "c"])
    }))

  it.effect("runs a job after its delay, and at its time", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      const seen: Array<string> = []
      yield* work(engine, [Text.handler((text) => Effect.sync(() => (seen.push(text), text)))])
      const now = yield* engine.now
      yield* queue.enqueue(Text, "two hours", { at: now + Duration.toMillis("2 hours") })
      const hour = yield* queue.enqueue(Text, "one hour", { delay: "1 hour" })
      yield* queue.enqueue(Text, "no delay", { delay: 0 })
      yield* untilLength(seen, 1)
      yield* queue.enqueue(Text, "long ago", { at: 0 })
      yield* untilLength(seen, 2)
      assert.deepStrictEqual(seen, ["no delay", "long ago"])
      const info = yield* queue.get(Text, hour)
      assert.strictEqual(info?.state, "delayed")
      assert.isAtLeast(info?.dueAt ?? 0, now + Duration.toMillis("1 hour"))
      yield* engine.elapse("59 minutes")
      assert.lengthOf(seen, 2)
      assert.include(yield* queue.counts(Text), { delayed: 2, waiting: 0 })
      yield* engine.elapse("1 minute")
      yield* untilLength(seen, 3)
      yield* engine.elapse("1 hour")
      yield* untilLength(seen, 4)
      assert.deepStrictEqual(seen, ["no delay", "long ago", "one hour", "two hours"])
    }))

  it.effect("runs jobs that are due at the same time in the order in which they came", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      const at = (yield* engine.now) + 60_000
      const numbers = Array.from({ length: 40 }, (_, i) => String(i))
      yield* Effect.forEach(numbers.slice(0, 20), (n) => queue.enqueue(Text, n, { at }))
      yield* queue.enqueueAll(Text, numbers.slice(20), { at })
      const seen: Array<string> = []
      yield* work(engine, [Text.handler((text) => Effect.sync(() => (seen.push(text), text)))], { concurrency: 1 })
      yield* engine.elapse("1 minute")
      yield* untilLength(seen, 40)
      assert.deepStrictEqual(seen, numbers)
    }))

  it.effect("runs priority 0 first and 9 last, and each in the order asked for", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      const Urgent = textJob({ priority: 1, queue: Text.queue })
      for (const priority of [9, 5, 0, 7]) yield* queue.enqueueAll(Text, [`${priority}a`, `${priority}b`], { priority })
      yield* queue.enqueue(Text, "5c")
      yield* queue.enqueueAll(Text, ["5d", "5e"], { lifo: true })
      yield* queue.enqueue(Urgent, "1a")
      yield* queue.enqueue(Urgent, "8a", { priority: 8 })
      yield* queue.enqueue(Text, "7c", { priority: 7, lifo: true })
      const seen: Array<string> = []
      const run = (text: string) => Effect.sync(() => (seen.push(text), text))
      yield* work(engine, [Text.handler(run), Urgent.handler(run)], { concurrency: 1 })
      yield* untilLength(seen, 14)
      assert.strictEqual(seen.join(" "), "0a 0b 1a 5e 5d 5a 5b 5c 7c 7a 7b 8a 9a 9b")
    }))

  it.effect("wakes a resting worker", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      // Under a test clock nothing else would.
      yield* work(engine, [Text.handler(Effect.succeed)], { poll: "1 hour" })
      for (const text of ["a", "b", "c"]) {
        yield* engine.elapse("10 seconds")
        const id = yield* queue.enqueue(Text, text)
        assert.strictEqual(yield* queue.result(Text, id, { within: "1 minute" }), text)
      }
      yield* queue.enqueueAll(Text, ["d", "e"], { delay: "10 seconds" })
      assert.strictEqual(yield* queue.size(Text), 2)
    }))

  it.effect("wakes a worker whose lease is no whole number of milliseconds", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      yield* work(engine, [Text.handler(Effect.succeed)], { poll: "1 hour", lease: "400.5 millis" })
      const id = yield* queue.enqueue(Text, "x")
      assert.strictEqual(yield* queue.result(Text, id, { within: "1 minute" }), "x")
    }))

  it.effect("takes a payload, or refuses it, by its size", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      yield* refuses("payload", queue.enqueue(Text, "x".repeat(1024 * 1024)))
      yield* refuses("payload", queue.enqueue(Text, "\u{1F600}".repeat(300_000)))
      const large = "\u{1F600}".repeat(200_000)
      yield* queue.enqueue(Text, large)
      assert.strictEqual((yield* queue.take(Text, 1))[0]?.payload, large)
      assert.strictEqual(yield* queue.size(Text), 0)
    }))

  it.effect("shares a queue between jobs that are declared so, and no others", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const own = failingJob()
      const shared = Job.make(own.name, { payload: Schema.String, shared: true })
      yield* queue.enqueue(shared, "x")
      assert.strictEqual(yield* queue.size(own), 0)
      assert.strictEqual(yield* queue.size(own.queue), 0)
      assert.strictEqual(yield* queue.size({ queue: own.queue, shared: true }), 1)
      assert.strictEqual(yield* queue.clear(shared), 1)
      yield* eventually("it is gone", Effect.map(queue.size(shared), (size) => size === 0))
    }))
}
