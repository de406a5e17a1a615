/** The job queue's contract: jobs taken by hand. */
import { assert } from "@effect/vitest"
import { Clock, Effect, Exit, Fiber, Scope } from "effect"
import { JobQueue } from "../../../src/JobQueue.ts"
import { pausableClock } from "../../support/pausableClock.ts"
import {
  failingJob,
  moment,
  type Part,
  refuses,
  stateOf,
  stepOnce,
  textJob,
  untilLength,
  untilState,
  work,
  workUntil
} from "./support.ts"

export const taking: Part = (it, engine) => {
  it.effect("takes what is there, up to a count, without waiting", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      assert.deepStrictEqual(yield* queue.take(Text, 3), [])
      yield* queue.enqueueAll(Text, ["a", "b", "c", "d"])
      const three = yield* queue.take(Text, 3)
      assert.deepStrictEqual(three.map(({ attempt, payload }) => [payload, attempt]), [["a", 1], ["b", 1], ["c", 1]])
      const four = yield* queue.take(Text, 3)
      assert.deepStrictEqual(four.map(({ payload }) => payload), ["d"])
      assert.isAbove(four[0]!.fencingToken, three[0]!.fencingToken)
      assert.include(yield* queue.counts(Text), { waiting: 0, active: 4 })
    }))

  it.effect("waits for the first job, and is woken by it", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      const waiting = yield* Effect.forkScoped(queue.take(Text, 5, { wait: "1 hour" }))
      yield* engine.elapse("10 seconds")
      yield* queue.enqueue(Text, "a")
      const jobs = yield* Fiber.join(waiting)
      assert.deepStrictEqual(jobs.map(({ payload }) => payload), ["a"])
      const next = yield* Effect.forkScoped(queue.take(Text, 5, { wait: "1 hour" }))
      yield* queue.enqueue(Text, "b", { delay: "30 millis" })
      yield* engine.elapse("30 millis")
      assert.deepStrictEqual((yield* Fiber.join(next)).map(({ payload }) => payload), ["b"])
    }))

  it.effect("waits no longer than it is told to", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      const waiting = yield* Effect.forkScoped(queue.take(Text, 5, { wait: "30 millis" }))
      yield* engine.elapse("30 millis")
      assert.deepStrictEqual(yield* Fiber.join(waiting), [])
    }))

  it.effect("wakes another one when whoever was called has gone", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      const patient = yield* Effect.forkScoped(queue.take(Text, 1, { wait: "1 hour" }))
      yield* engine.elapse(10)
      const impatient = yield* Effect.forEach(
        Array.from({ length: 3 }),
        () => Effect.forkScoped(queue.take(Text, 1, { wait: "1 hour" }))
      )
      yield* engine.elapse(10)
      yield* Fiber.interruptAll(impatient)
      yield* queue.enqueue(Text, "a")
      assert.deepStrictEqual((yield* Fiber.join(patient)).map(({ payload }) => payload), ["a"])
    }))

  it.effect("gives back what was not settled when the scope closes, first in line and without an attempt", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      const ids = yield* queue.enqueueAll(Text, ["a", "b", "c", "d"])
      yield* Effect.scoped(Effect.gen(function*() {
        const jobs = yield* queue.take(Text, 3)
        yield* jobs[1]!.complete("done")
      }))
      assert.include(yield* queue.counts(Text), { waiting: 3, active: 0, finished: 1 })
      const states = yield* Effect.forEach(ids, (id) => queue.get(Text, id))
      assert.deepStrictEqual(states.map((info) => info?.attempt), [0, 1, 0, 0])
      const again = yield* queue.take(Text, 5)
      assert.sameMembers(again.slice(0, 2).map(({ payload }) => payload), ["a", "c"])
      assert.strictEqual(again[2]?.payload, "d")
      // Also when whoever took them is interrupted.
      yield* queue.enqueue(Text, "e")
      const fiber = yield* Effect.forkChild(Effect.scoped(Effect.andThen(queue.take(Text, 1), Effect.never)))
      const last = (yield* queue.list(Text, { state: "waiting" })).jobs[0]!
      yield* untilState(Text, last.id, "active")
      yield* Fiber.interrupt(fiber)
      assert.strictEqual(yield* stateOf(Text, last.id), "waiting")
    }))

  it.effect("leaves nothing behind in a scope in which it takes again and again", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      const scope = yield* Scope.make()
      const take = Scope.provide(queue.take(Text, 2), scope)
      for (let round = 0; round < 20; round++) {
        yield* queue.enqueueAll(Text, ["a", "b"])
        const [a, b] = yield* take
        assert.lengthOf(yield* take, 0)
        yield* a!.complete("x")
        yield* b!.release({ delay: "1 hour" })
      }
      assert.strictEqual(scope.state._tag, "Empty")
      yield* Scope.close(scope, Exit.void)
    }))

  it.effect("completes, fails and releases, and the job goes where it belongs", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Failing = failingJob({ attempts: 2, backoff: { kind: "fixed", delay: "1 minute" } })
      yield* queue.enqueueAll(Failing, ["a", "b", "c", "d"])
      const [a, b, c, d] = yield* queue.take(Failing, 4)
      yield* a!.complete()
      yield* b!.fail("no")
      yield* c!.release()
      yield* d!.release({ delay: "2 minutes" })
      const infos = yield* Effect.forEach([a, b, c, d], (job) => queue.get(Failing, job!.id))
      assert.deepStrictEqual(infos.map((info) => [info?.state, info?.attempt]), [
        ["completed", 1],
        ["delayed", 1],
        ["waiting", 0],
        ["delayed", 0]
      ])
      assert.deepStrictEqual(infos[1]?.failure, { reason: "error", detail: "no" })
      yield* engine.elapse("1 minute")
      const [again, retried] = yield* queue.take(Failing, 5)
      assert.include(again, { payload: "c", attempt: 1 })
      assert.include(retried, { payload: "b", attempt: 2 })
      for (const delay of [-1, NaN, Infinity, 1e300]) yield* refuses("delay", again!.release({ delay }))
      yield* retried!.fail("for good")
      assert.strictEqual(yield* Effect.flip(queue.result(Failing, retried!.id, { within: "1 minute" })), "for good")
      yield* again!.complete()
    }))

  it.effect("passes over what it cannot read, and over jobs of another kind", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      const Other = failingJob({ queue: Text.queue })
      const Numbers = textJob({ queue: Text.queue })
      const bad = yield* queue.enqueue({ ...Numbers, name: Text.name, payload: Other.payload }, "fine")
      const other = yield* queue.enqueue(Other, "other")
      yield* queue.enqueue(Text, "text")
      const jobs = yield* queue.take(Text, 5)
      assert.deepStrictEqual(jobs.map(({ payload }) => payload), ["fine", "text"])
      assert.strictEqual(jobs[0]?.id, bad)
      assert.include(yield* queue.get(Text, other), { state: "delayed", attempt: 0 })
      yield* engine.elapse("1 second")
      assert.deepStrictEqual((yield* queue.take(Other, 5)).map(({ payload }) => payload), ["other"])
    }))

  it.effect("looks behind jobs of another kind for one of its own", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      const Other = failingJob({ queue: Text.queue })
      yield* queue.enqueueAll(Other, Array.from({ length: 30 }, () => "other"))
      yield* queue.enqueue(Text, "text")
      assert.deepStrictEqual((yield* queue.take(Text, 2)).map(({ payload }) => payload), ["text"])
      assert.include(yield* queue.counts(Text), { waiting: 0, delayed: 30, active: 1 })
      assert.deepStrictEqual(yield* queue.take(Text, 1), [])
    }))

  it.effect("keeps the leases of what it holds", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      yield* queue.enqueueAll(Text, ["a", "b"])
      const jobs = yield* queue.take(Text, 2, { lease: "300 millis" })
      for (let i = 0; i < 3; i++) {
        yield* engine.elapse("100 millis")
        yield* engine.elapse("100 millis")
        yield* Effect.repeat(moment, { times: 30 })
      }
      assert.lengthOf(yield* queue.take(Text, 2), 0)
      for (const job of jobs) yield* job.complete("x")
    }))

  it.effect("loses a job whose lease has passed to the next one, and cannot settle it any more", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      const id = yield* queue.enqueue(Text, "x")
      const stopped = yield* pausableClock
      yield* stopped.pause()
      const scope = yield* Scope.make()
      const [late] = yield* queue.take(Text, 1, { lease: "10 seconds" }).pipe(
        Effect.provideService(Clock.Clock, stopped.clock),
        Scope.provide(scope)
      )
      yield* engine.elapse("9 seconds")
      assert.lengthOf(yield* queue.take(Text, 1), 0)
      yield* engine.elapse("2 seconds")
      const [current] = yield* queue.take(Text, 1)
      assert.include(current, { id, attempt: 1 })
      assert.isAbove(current!.fencingToken, late!.fencingToken)
      assert.include(yield* Effect.flip(late!.complete("late")), { _tag: "LeaseLost", id })
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(yield* stateOf(Text, id), "active")
      yield* current!.complete("in time")
      assert.strictEqual(yield* queue.result(Text, id, { within: "1 minute" }), "in time")
    }))

  it.effect("interrupts a handler whose lease has passed, and ignores what it says", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      const seen: Array<string> = []
      const stopped = yield* pausableClock
      yield* Effect.provideService(
        work(engine, [
          Text.handler(() => {
            seen.push("started")
            return Effect.onInterrupt(Effect.never, () => Effect.sync(() => seen.push("interrupted")))
          })
        ], { concurrency: 1, lease: "300 millis" }),
        Clock.Clock,
        stopped.clock
      )
      const id = yield* queue.enqueue(Text, "x")
      // Active it is as soon as it was sent to the worker, which then has yet to hear of it.
      yield* untilLength(seen, 1)
      yield* stopped.pause()
      yield* engine.elapse("10 seconds")
      const [current] = yield* queue.take(Text, 1)
      assert.include(current, { id, attempt: 1 })
      yield* stopped.resume
      yield* engine.elapse("100 millis")
      yield* untilLength(seen, 2)
      assert.strictEqual(yield* stateOf(Text, id), "active")
      yield* current!.complete("by the second")
      assert.strictEqual(yield* queue.result(Text, id, { within: "1 minute" }), "by the second")
      yield* stepOnce(Text)
      assert.include(yield* queue.counts(Text), { active: 0, waiting: 0, finished: 1 })
    }))

  it.effect("shares a queue with a worker, so that each job runs once", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      const seen: Array<string> = []
      const { close } = yield* workUntil(engine, [
        Text.handler((text) => Effect.andThen(moment, Effect.sync(() => (seen.push(text), text))))
      ], { concurrency: 3 })
      const texts = Array.from({ length: 100 }, (_, i) => String(i))
      yield* queue.enqueueAll(Text, texts)
      while (seen.length < 100) {
        for (const job of yield* queue.take(Text, 3)) {
          yield* job.complete(job.payload)
          seen.push(job.payload)
        }
        yield* moment
      }
      yield* close
      assert.sameMembers(seen, texts)
      assert.include(yield* queue.counts(Text), { waiting: 0, active: 0, finished: 100 })
    }))
}
