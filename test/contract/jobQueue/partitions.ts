/** The job queue's contract: where the jobs of a queue of several partitions are, and what is asked of all of them. */
import { assert } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import * as fc from "fast-check"
import type { EnqueueOptions } from "../../../src/JobInfo.ts"
import { JobQueue } from "../../../src/JobQueue.ts"
import { JobWorker } from "../../../src/JobWorker.ts"
import {
  eventually,
  listAll,
  many,
  type Part,
  recordEvents,
  refuses,
  spreadJob,
  stateOf,
  unique,
  untilState,
  work,
  workUntil
} from "./support.ts"

export const partitions: Part = (it, engine) => {
  it.effect("finds, counts and lists all jobs that were enqueued, with and without ids and keys", () =>
    Effect.gen(function*() {
      const context = yield* Effect.context<JobQueue>()
      const key = fc.option(fc.constantFrom(...many.slice(0, 12)), { nil: undefined })
      const one = fc.record({ hasId: fc.boolean(), key, delayed: fc.boolean(), times: fc.integer({ min: 1, max: 2 }) })
      const batch = fc.record({ key, size: fc.integer({ min: 1, max: 5 }), hasIds: fc.boolean() })
      const check = (
        partitions: number,
        ones: ReadonlyArray<typeof one extends fc.Arbitrary<infer A> ? A : never>,
        batches: ReadonlyArray<typeof batch extends fc.Arbitrary<infer A> ? A : never>,
        limit: number
      ) =>
        Effect.gen(function*() {
          const queue = yield* JobQueue
          const Spread = spreadJob({ partitions })
          const waiting: Array<string> = []
          const delayed: Array<string> = []
          for (const { delayed: isDelayed, hasId, key, times } of ones) {
            const options: EnqueueOptions = {
              key,
              ...(hasId ? { id: unique("id") } : {}),
              ...(isDelayed ? { delay: "1 hour" } : {})
            }
            for (let i = 0; i < (hasId ? times : 1); i++) {
              const id = yield* queue.enqueue(Spread, "x", options)
              if (i === 0) (isDelayed ? delayed : waiting).push(id)
              else assert.strictEqual(id, options.id)
            }
          }
          for (const { hasIds, key, size } of batches) {
            const ids = Array.from({ length: size }, () => unique("batch"))
            waiting.push(
              ...yield* queue.enqueueAll(Spread, ids, { key, ...(hasIds ? { ids } : {}) })
            )
          }
          for (const [state, ids] of [["waiting", waiting], ["delayed", delayed]] as const) {
            assert.sameMembers((yield* listAll(Spread, state, limit)).map(({ id }) => id), ids)
          }
          assert.include(yield* queue.counts(Spread), { waiting: waiting.length, delayed: delayed.length })
          for (const id of waiting) assert.strictEqual(yield* stateOf(Spread, id), "waiting")
          for (const id of delayed) assert.strictEqual(yield* stateOf(Spread, id), "delayed")
          assert.isUndefined(yield* queue.get(Spread, "unknown"))
          assert.strictEqual(yield* queue.drain(Spread), waiting.length)
          assert.strictEqual(yield* queue.clear(Spread), delayed.length)
        })
      yield* Effect.promise(() =>
        fc.assert(
          fc.asyncProperty(
            fc.constantFrom(1, 2, 3, 8),
            fc.array(one, { maxLength: 12 }),
            fc.array(batch, { maxLength: 4 }),
            fc.integer({ min: 1, max: 7 }),
            (...all) => Effect.runPromiseWith(context)(check(...all))
          ),
          { numRuns: 60 }
        )
      )
    }))

  it.effect("takes the same id for one job, with its key and without one", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Spread = spreadJob()
      for (let round = 0; round < 2; round++) {
        for (const id of many) yield* queue.enqueue(Spread, id, { id })
        yield* queue.enqueueAll(Spread, many, { ids: many })
        for (const key of many) yield* queue.enqueue(Spread, key, { id: `of ${key}`, key })
      }
      assert.strictEqual(yield* queue.size(Spread), 2 * many.length)
      // A new id is found again as one's own, too.
      const id = yield* queue.enqueue(Spread, "x", { key: "even 0" })
      yield* queue.enqueue(Spread, "x", { id, key: "even 0" })
      const other = yield* queue.enqueue(Spread, "x")
      yield* queue.enqueue(Spread, "x", { id: other })
      assert.strictEqual(yield* queue.size(Spread), 2 * many.length + 2)
    }))

  it.effect("controls each job wherever it is", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Spread = spreadJob({ attempts: 1 })
      const enqueue = (options: EnqueueOptions = {}) =>
        Effect.forEach(many, (key, i) => {
          const own = [{}, { key }, { key, id: unique("own") }, { id: unique("own") }][i % 4]!
          return queue.enqueue(Spread, "x", { ...own, ...options })
        })
      for (const id of yield* enqueue()) {
        assert.strictEqual(yield* queue.cancel(Spread, id), "cancelled")
        assert.strictEqual(yield* queue.cancel(Spread, id), "unchanged")
        assert.strictEqual(yield* stateOf(Spread, id), "cancelled")
      }
      for (const id of yield* enqueue({ delay: "1 hour" })) {
        assert.isTrue(yield* queue.promote(Spread, id))
        assert.isFalse(yield* queue.promote(Spread, id))
        assert.isTrue(yield* queue.remove(Spread, id))
        assert.isFalse(yield* queue.remove(Spread, id))
      }
      const ids = yield* enqueue()
      const { close } = yield* workUntil(engine, [Spread.handler(() => Effect.fail("no"))])
      for (const id of ids) yield* untilState(Spread, id, "failed")
      yield* close
      yield* queue.pause(Spread)
      assert.isTrue(yield* queue.retry(Spread, ids[2]!))
      assert.isFalse(yield* queue.retry(Spread, ids[2]!))
      assert.strictEqual(yield* queue.replay(Spread, { limit: 30 }), 30)
      assert.strictEqual(yield* queue.replay(Spread), many.length - 31)
      assert.include(yield* queue.counts(Spread), { waiting: many.length, failed: 0, finished: many.length })
    }))

  it.effect("interrupts a job that runs, by its id, whatever its key is", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Spread = spreadJob()
      yield* work(engine, [Spread.handler(() => Effect.never)], { concurrency: 40 })
      const ids = yield* Effect.forEach(many, (key) => queue.enqueue(Spread, "x", { id: `id ${key}`, key }))
      for (const id of ids) yield* untilState(Spread, id, "active")
      for (const id of ids) {
        assert.strictEqual(yield* queue.cancel(Spread, id, { reason: "enough" }), "requested")
        const error = yield* Effect.flip(queue.result(Spread, id, { within: "1 minute" }))
        assert.deepInclude(error, { _tag: "JobCancelled", id, reason: "enough" })
      }
    }))

  it.effect("runs delayed jobs when they are due and failed ones again, and yields their results", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Spread = spreadJob({ attempts: 3, backoff: { kind: "fixed", delay: "1 minute" } })
      let tried = 0
      yield* work(engine, [
        Spread.handler((text, { attempt }) => {
          tried++
          return text.startsWith("odd") || attempt < 2 ? Effect.fail("no") : Effect.succeed(`${text} ${attempt}`)
        })
      ])
      const ids = yield* Effect.forEach(many, (key, i) => {
        const own = [{}, { key }, { key, id: key }, { id: key }][i % 4]!
        return queue.enqueue(Spread, key, { ...own, delay: "1 hour" })
      })
      const results = yield* Effect.forkChild(
        Effect.forEach(ids, (id) => Effect.result(queue.result(Spread, id, { within: "1 day" })), { concurrency: 40 })
      )
      yield* engine.elapse("59 minutes")
      assert.strictEqual(tried, 0)
      const half = many.length / 2
      for (
        const [time, triedThen, delayed, failed] of [
          ["1 minute", 2 * half, 2 * half, 0],
          ["1 minute", 4 * half, half, 0],
          ["1 minute", 5 * half, 0, half]
        ] as const
      ) {
        yield* engine.elapse(time)
        yield* eventually(
          "all that are due were tried",
          Effect.map(
            queue.counts(Spread),
            (counts) =>
              tried === triedThen && counts.delayed === delayed && counts.failed === failed && counts.active === 0
          )
        )
      }
      const ends = (yield* Fiber.join(results)).map((end) => end._tag === "Success" ? end.success : end.failure)
      assert.deepStrictEqual(ends, many.map((key, i) => i % 2 === 0 ? `${key} 2` : "no"))
    }))

  it.effect("tells what happens in all partitions", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Spread = spreadJob({ partitions: 3 })
      const { kindsOf, seen } = yield* recordEvents(Spread)
      const ids = yield* Effect.forEach(many, (key) => queue.enqueue(Spread, "x", { key, tenant: key }))
      while ((yield* queue.size(Spread)) > 0) {
        for (const job of yield* queue.take(Spread, 7)) yield* job.complete("done")
      }
      yield* eventually("all events", Effect.sync(() => seen().length >= 3 * many.length))
      for (const id of ids) assert.deepStrictEqual(kindsOf(id), ["queued", "active", "completed"])
      for (const event of seen()) {
        assert.deepInclude(event, { queue: Spread.queue, tenant: many[ids.indexOf(event.id)]! })
      }
    }))

  it.effect("takes jobs from all partitions, up to a count, and waits for the first in any", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Spread = spreadJob()
      for (const key of many) yield* queue.enqueue(Spread, key, { key })
      yield* Effect.scoped(Effect.gen(function*() {
        const some = yield* queue.take(Spread, 25)
        assert.lengthOf(some, 25)
        const rest = yield* queue.take(Spread, 25)
        assert.sameMembers([...some, ...rest].map(({ payload }) => payload), many)
        yield* some[0]!.complete("done")
        yield* some[1]!.fail("no")
        yield* some[2]!.release({ delay: "1 hour" })
        assert.include(yield* queue.counts(Spread), { active: many.length - 3, delayed: 2, finished: 1 })
      }))
      assert.include(yield* queue.counts(Spread), { active: 0, waiting: many.length - 3 })
      yield* queue.clear(Spread)
      for (const key of many.slice(0, 8)) {
        const taking = yield* Effect.forkScoped(queue.take(Spread, 1, { wait: "1 hour" }))
        yield* engine.elapse(10)
        // One for each partition at the same time, of which it takes one.
        yield* Effect.forEach(many, (key) => queue.enqueue(Spread, key, { key }), { concurrency: "unbounded" })
        const [taken, ...others] = yield* Fiber.join(taking)
        assert.lengthOf(others, 0)
        yield* taken!.complete(key)
        yield* eventually(
          "the others are back",
          Effect.map(queue.counts(Spread), ({ active, waiting }) => active === 0 && waiting === many.length - 1)
        )
        yield* queue.clear(Spread)
      }
    }))

  it.effect("refuses numbers of partitions that cannot be or do not agree, keys without sense, and others' cursors", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      for (const partitions of [0, -1, 1.5, NaN, 65]) {
        yield* refuses("partitions", queue.enqueue(spreadJob({ partitions }), "x"))
        yield* refuses("partitions", queue.counts({ queue: unique("counted"), partitions }))
      }
      const Spread = spreadJob()
      yield* queue.enqueueAll(Spread, ["a", "b"], { ids: ["a", "b"] })
      if (engine.programs === undefined) {
        const Other = spreadJob({ queue: Spread.queue, partitions: 5 })
        yield* refuses("partitions", queue.enqueue(Other, "x"))
        yield* refuses("partitions", queue.take(Other, 1))
        yield* refuses("partitions", queue.pause({ queue: Spread.queue, partitions: 1 }))
        const worker = JobWorker.layer([Spread.handler(Effect.succeed), Other.handler(Effect.succeed)])
        yield* refuses("partitions", Effect.scoped(Effect.asVoid(Effect.provide(Effect.void, worker))))
        // By its name alone it is the one that is known here.
        assert.strictEqual(yield* queue.size(Spread.queue), 2)
      }
      for (const key of ["", "a\0b", "x".repeat(257), "\ud800"]) {
        yield* refuses("key", queue.enqueue(Spread, "x", { key }))
        yield* refuses("key", queue.enqueueAll(Spread, ["x"], { key }))
      }
      for (const cursor of ["", "/", "4/", "-1/", "0/x", "a/1", "1/2/3"]) {
        yield* refuses("cursor", queue.list(Spread, { state: "waiting", cursor }))
      }
      const Single = spreadJob({ partitions: 1 })
      yield* refuses("cursor", queue.list(Single, { state: "waiting", cursor: "0/" }))
      assert.strictEqual(yield* queue.size(Spread), 2)
    }))
}
