/** The job queue's contract: looking at jobs, and what operators do to them. */
import { assert } from "@effect/vitest"
import { Deferred, Effect, Fiber } from "effect"
import type { EnqueueOptions } from "../../../src/JobInfo.ts"
import { JobQueue } from "../../../src/JobQueue.ts"
import {
  eventually,
  failingJob,
  listAll,
  moment,
  type Part,
  stateOf,
  stepOnce,
  textJob,
  untilLength,
  untilState,
  work
} from "./support.ts"

export const control: Part = (it, engine) => {
  it.effect("cancels jobs that wait, and they never run", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      const waiting = yield* queue.enqueue(Text, "waiting")
      const delayed = yield* queue.enqueue(Text, "delayed", { delay: "10 minutes" })
      const kept = yield* queue.enqueue(Text, "kept")
      const result = yield* Effect.forkChild(Effect.flip(queue.result(Text, delayed, { within: "1 day" })))
      yield* engine.elapse(1)
      assert.strictEqual(yield* queue.cancel(Text, waiting, { reason: "not\0 needed\n;" }), "cancelled")
      assert.strictEqual(yield* queue.cancel(Text, delayed), "cancelled")
      assert.strictEqual(yield* queue.cancel(Text, delayed), "unchanged")
      assert.strictEqual(yield* queue.cancel(Text, "nobody"), "unchanged")
      assert.include(yield* Fiber.join(result), { _tag: "JobCancelled", id: delayed, reason: "cancelled" })
      const error = yield* Effect.flip(queue.result(Text, waiting, { within: "1 minute" }))
      assert.include(error, { _tag: "JobCancelled", id: waiting, reason: "not\0 needed\n;" })
      assert.include(yield* queue.get(Text, waiting), { state: "cancelled", attempt: 0, name: Text.name })
      const seen: Array<string> = []
      yield* work(engine, [Text.handler((text) => Effect.sync(() => (seen.push(text), text)))])
      yield* queue.result(Text, kept, { within: "1 minute" })
      yield* engine.elapse("20 minutes")
      assert.deepStrictEqual(seen, ["kept"])
      assert.strictEqual(yield* queue.cancel(Text, kept), "unchanged")
      assert.include(yield* queue.counts(Text), { waiting: 0, delayed: 0, active: 0, finished: 3 })
    }))

  it.effect("cancels a running job: its handler is interrupted and its finalizers run", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      const seen: Array<string> = []
      yield* work(engine, [
        Text.handler(() =>
          Effect.acquireRelease(
            Effect.sync(() => seen.push("acquired")),
            () => Effect.sync(() => seen.push("released"))
          )
            .pipe(Effect.andThen(Effect.never), Effect.onInterrupt(() => Effect.sync(() => seen.push("interrupted"))))
        )
      ])
      const id = yield* queue.enqueue(Text, "x")
      yield* untilLength(seen, 1)
      assert.strictEqual(yield* queue.cancel(Text, id, { reason: "too\0 late\u0001\n" }), "requested")
      const error = yield* Effect.flip(queue.result(Text, id, { within: "1 minute" }))
      assert.include(error, { _tag: "JobCancelled", reason: "too\0 late\u0001\n" })
      assert.deepStrictEqual(seen, ["acquired", "interrupted", "released"])
      assert.strictEqual(yield* queue.cancel(Text, id), "unchanged")
      assert.include(yield* queue.counts(Text), { active: 0, finished: 1 })
    }))

  it.effect("cancels jobs at the very moment at which they start", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      yield* work(engine, [Text.handler(() => Effect.never)], { concurrency: 50 })
      const ids = yield* Effect.forEach(Array.from({ length: 50 }), () => queue.enqueue(Text, "x"))
      const fresh = yield* queue.enqueueAll(Text, Array.from({ length: 20 }, () => "x"))
      yield* Effect.forEach([...ids, ...fresh], (id) => queue.cancel(Text, id), { concurrency: "unbounded" })
      for (const id of [...ids, ...fresh]) yield* untilState(Text, id, "cancelled")
      assert.include(yield* queue.counts(Text), { active: 0, waiting: 0 })
    }))

  it.effect("ends a job that was cancelled while it was held, however its holder lets go", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Failing = failingJob()
      yield* queue.enqueueAll(Failing, ["completes", "fails", "is released", "is given back"])
      const ids = yield* Effect.scoped(Effect.gen(function*() {
        const jobs = yield* queue.take(Failing, 4)
        for (const { id } of jobs) assert.strictEqual(yield* queue.cancel(Failing, id, { reason: "why" }), "requested")
        yield* jobs[0]!.complete()
        yield* jobs[1]!.fail("x")
        yield* jobs[2]!.release({ delay: "1 hour" })
        return jobs.map(({ id }) => id)
      }))
      const states = yield* Effect.forEach(ids, (id) => stateOf(Failing, id))
      assert.deepStrictEqual(states, ["completed", "cancelled", "cancelled", "cancelled"])
      const error = yield* Effect.flip(queue.result(Failing, ids[3]!, { within: "1 minute" }))
      assert.include(error, { _tag: "JobCancelled", reason: "why" })
    }))

  it.effect("pauses a queue: what runs goes on, what is due moves up, and nothing starts", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      const seen: Array<string> = []
      const latch = yield* Deferred.make<void>()
      yield* work(engine, [
        Text.handler((text) => {
          seen.push(text)
          return text === "running" ? Effect.as(Deferred.await(latch), text) : Effect.succeed(text)
        })
      ])
      const running = yield* queue.enqueue(Text, "running")
      yield* untilLength(seen, 1)
      yield* queue.pause(Text)
      assert.isTrue((yield* queue.counts(Text)).paused)
      yield* queue.enqueue(Text, "waiting")
      yield* queue.enqueue(Text, "delayed", { delay: "1 hour" })
      yield* Deferred.succeed(latch, undefined)
      assert.strictEqual(yield* queue.result(Text, running, { within: "1 minute" }), "running")
      assert.include(yield* queue.counts(Text), { waiting: 1, delayed: 1 })
      assert.lengthOf(yield* queue.take(Text, 5), 0)
      yield* engine.elapse("1 hour")
      yield* eventually("it is due", Effect.map(queue.counts(Text), ({ delayed }) => delayed === 0))
      assert.include(yield* queue.counts(Text), { waiting: 2, active: 0 })
      assert.deepStrictEqual(seen, ["running"])
      yield* queue.resume(Text)
      yield* untilLength(seen, 3)
      assert.deepStrictEqual(seen, ["running", "waiting", "delayed"])
      assert.isFalse((yield* queue.counts(Text)).paused)
    }))

  it.effect("pauses one worker, while others go on", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      const by = (name: string) => Text.handler(() => Effect.succeed(name))
      const one = yield* work(engine, [by("one")], { poll: "1 hour" })
      const enqueue = Effect.flatMap(
        queue.enqueue(Text, "x"),
        (id) => queue.result(Text, id, { within: "1 minute" })
      )
      assert.strictEqual(yield* enqueue, "one")
      yield* one.pause
      const two = yield* work(engine, [by("two")], { poll: "1 hour" })
      for (let i = 0; i < 10; i++) assert.strictEqual(yield* enqueue, "two")
      yield* two.pause
      yield* moment
      const id = yield* queue.enqueue(Text, "x")
      yield* engine.elapse("5 seconds")
      assert.strictEqual(yield* stateOf(Text, id), "waiting")
      yield* one.resume
      assert.strictEqual(yield* queue.result(Text, id, { within: "1 minute" }), "one")
      assert.strictEqual(yield* one.running, 0)
    }))

  it.effect("removes jobs that do not run, and forgets them", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Failing = failingJob({ attempts: 1 })
      const [active, dead, done] = yield* queue.enqueueAll(Failing, ["active", "dead", "done"])
      const [running, failing, ending] = yield* queue.take(Failing, 3)
      yield* failing!.fail("x")
      yield* ending!.complete()
      const waiting = yield* queue.enqueue(Failing, "waiting")
      const delayed = yield* queue.enqueue(Failing, "delayed", { delay: "1 hour" })
      assert.isFalse(yield* queue.remove(Failing, active!))
      assert.isFalse(yield* queue.remove(Failing, "nobody"))
      for (const id of [dead!, done!, waiting, delayed]) {
        assert.isTrue(yield* queue.remove(Failing, id))
        assert.isUndefined(yield* queue.get(Failing, id))
        assert.isFalse(yield* queue.remove(Failing, id))
      }
      assert.include(yield* queue.counts(Failing), { waiting: 0, delayed: 0, active: 1, failed: 0, finished: 0 })
      yield* running!.complete()
      assert.include(yield* queue.counts(Failing), { waiting: 0, delayed: 0, active: 0, failed: 0, finished: 1 })
    }))

  it.effect("removes from the middle of a long queue, and runs what comes again with the same id once", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      const ids = Array.from({ length: 100 }, (_, i) => `job ${i}`)
      yield* queue.enqueueAll(Text, ids.map((id) => `${id} first`), { ids })
      for (const id of ids.slice(20, 60)) assert.isTrue(yield* queue.remove(Text, id))
      assert.include(yield* queue.counts(Text), { waiting: 60 })
      assert.lengthOf(yield* listAll(Text, "waiting", 7), 60)
      const again = ids.slice(30, 50)
      yield* queue.enqueueAll(Text, again.map((id) => `${id} second`), { ids: again })
      yield* queue.cancel(Text, ids[99]!)
      yield* queue.remove(Text, ids[99]!)
      yield* queue.enqueue(Text, `${ids[99]} third`, { id: ids[99]!, delay: "10 minutes" })
      assert.include(yield* queue.counts(Text), { waiting: 79, delayed: 1 })
      assert.lengthOf(yield* listAll(Text, "waiting", 7), 79)
      const seen: Array<string> = []
      yield* work(engine, [Text.handler((text) => Effect.sync(() => (seen.push(text), text)))], { concurrency: 3 })
      yield* untilLength(seen, 79)
      yield* engine.elapse("10 minutes")
      yield* untilLength(seen, 80)
      yield* eventually("all are done", Effect.map(queue.counts(Text), ({ active }) => active === 0))
      assert.include(yield* queue.counts(Text), { waiting: 0, delayed: 0, finished: 80 })
      const first = [...ids.slice(0, 20), ...ids.slice(60, 99)].map((id) => `${id} first`)
      assert.deepStrictEqual(seen, [...first, ...again.map((id) => `${id} second`), "job 99 third"])
    }))

  it.effect("runs a delayed job at once when it is promoted", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      yield* work(engine, [Text.handler(Effect.succeed)], { poll: "1 hour" })
      const id = yield* queue.enqueue(Text, "x", { delay: "1 day" })
      yield* engine.elapse(1)
      assert.isTrue(yield* queue.promote(Text, id))
      assert.strictEqual(yield* queue.result(Text, id, { within: "1 minute" }), "x")
      assert.isFalse(yield* queue.promote(Text, id))
      assert.isFalse(yield* queue.promote(Text, "nobody"))
    }))

  it.effect("drains what waits, and delayed jobs if asked, and clears both", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      const fill = Effect.gen(function*() {
        yield* queue.enqueueAll(Text, Array.from({ length: 700 }, () => "waiting"))
        yield* queue.enqueueAll(Text, Array.from({ length: 600 }, () => "delayed"), { delay: "1 hour" })
      })
      yield* queue.enqueue(Text, "running")
      const [running] = yield* queue.take(Text, 1)
      yield* fill
      assert.strictEqual(yield* queue.size(Text), 1300)
      assert.strictEqual(yield* queue.drain(Text), 700)
      assert.include(yield* queue.counts(Text), { waiting: 0, delayed: 600, active: 1 })
      assert.strictEqual(yield* queue.drain(Text, { delayed: true }), 600)
      assert.strictEqual(yield* queue.size(Text), 0)
      yield* fill
      const waited = (yield* listAll(Text, "waiting", 1000)).slice(0, 650)
      yield* Effect.forEach(waited, ({ id }) => queue.remove(Text, id), { concurrency: 20 })
      assert.strictEqual(yield* queue.clear(Text), 650)
      assert.strictEqual(yield* queue.clear(Text), 0)
      yield* running!.complete("x")
      assert.include(yield* queue.counts(Text), { waiting: 0, delayed: 0, active: 0, finished: 1 })
      assert.lengthOf(yield* queue.take(Text, 1), 0)
    }))

  it.effect("tells a waiting result that its job was drained", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      const id = yield* queue.enqueue(Text, "x")
      const result = yield* Effect.forkChild(Effect.flip(queue.result(Text, id, { within: "1 hour" })))
      yield* engine.elapse(1)
      assert.strictEqual(yield* queue.clear(Text), 1)
      assert.include(yield* Fiber.join(result), { _tag: "ResultExpired" })
    }))

  it.effect("counts jobs by state, and lists each state page by page", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Failing = failingJob({ attempts: 1 })
      const numbers = (from: number, count: number) => Array.from({ length: count }, (_, i) => String(from + i))
      const ids = (kind: string, count: number) => numbers(0, count).map((n) => `${kind} ${n}`)
      const enqueue = (kind: string, count: number, options: EnqueueOptions) =>
        queue.enqueueAll(Failing, ids(kind, count), {
          ids: ids(kind, count),
          tenant: kind,
          tags: ["t", kind],
          ...options
        })
      yield* enqueue("failed", 25, {})
      for (const job of yield* queue.take(Failing, 25)) yield* job.fail("x")
      yield* enqueue("finished", 31, {})
      for (const job of yield* queue.take(Failing, 30)) yield* job.complete()
      yield* queue.cancel(Failing, "finished 30")
      yield* enqueue("active", 22, {})
      yield* queue.take(Failing, 22)
      yield* enqueue("delayed", 23, { delay: "1 hour" })
      yield* enqueue("waiting 7", 15, { priority: 7 })
      yield* enqueue("waiting 2", 20, { priority: 2 })
      const expected = {
        waiting: [...ids("waiting 2", 20), ...ids("waiting 7", 15)],
        delayed: ids("delayed", 23),
        active: ids("active", 22),
        failed: ids("failed", 25),
        finished: ids("finished", 31)
      }
      const { oldestWaiting, ...counts } = yield* queue.counts(Failing)
      assert.isDefined(oldestWaiting)
      assert.deepStrictEqual(counts, {
        waiting: 35,
        delayed: 23,
        active: 22,
        failed: 25,
        finished: 31,
        paused: false
      })
      for (const state of ["waiting", "delayed", "active", "failed", "finished"] as const) {
        for (const limit of [1, 10, 1000]) {
          const found = yield* listAll(Failing, state, limit)
          const foundIds = found.map(({ id }) => id)
          if (state === "waiting") assert.deepStrictEqual(foundIds, expected.waiting)
          else assert.sameMembers(foundIds, expected[state])
          for (const job of found) {
            const shown = state === "finished" ? (job.id === "finished 30" ? "cancelled" : "completed") : state
            assert.deepInclude(job, { state: shown, name: Failing.name })
            assert.strictEqual(job.id.startsWith(job.tenant ?? "?"), true)
            if (state !== "finished") assert.deepStrictEqual(job.tags, ["t", job.tenant!])
          }
        }
      }
      assert.strictEqual((yield* listAll(Failing, "finished", 10))[0]?.id, "finished 30")
    }))

  it.effect("tells for how long the oldest job has waited", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      assert.isUndefined((yield* queue.counts(Text)).oldestWaiting)
      yield* queue.enqueue(Text, "later", { delay: "1 hour" })
      yield* stepOnce(Text)
      assert.isUndefined((yield* queue.counts(Text)).oldestWaiting)
      yield* queue.enqueue(Text, "now")
      assert.isDefined((yield* queue.counts(Text)).oldestWaiting)
    }))
}
