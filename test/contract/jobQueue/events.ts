/** The job queue's contract: what is told of each step in a job's life. */
import { assert } from "@effect/vitest"
import { Clock, Effect, Stream } from "effect"
import { JobQueue } from "../../../src/JobQueue.ts"
import { pausableClock } from "../../support/pausableClock.ts"
import { eventually, failingJob, type Part, recordEvents, stepOnce, textJob, work } from "./support.ts"

export const events: Part = (it, engine) => {
  it.effect("tells each step in a job's life, in order and with its tenant", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Failing = failingJob({ attempts: 2, backoff: { kind: "fixed", delay: "1 minute" } })
      const { kindsOf, seen } = yield* recordEvents(Failing)
      const expected: Record<string, ReadonlyArray<string>> = {}
      const enqueue = (id: string, ...then: ReadonlyArray<string>) => {
        expected[id] = ["queued", ...then]
        return queue.enqueue(Failing, id, { id, tenant: `of ${id}` })
      }
      yield* enqueue("completes", "active", "completed")
      yield* enqueue("fails", "active", "retrying", "active", "failed", "queued", "active", "released", "removed")
      yield* enqueue("comes back", "active", "released", "active", "completed", "removed")
      const [completes, fails, back] = yield* queue.take(Failing, 3)
      yield* completes!.complete()
      yield* fails!.fail("x")
      yield* back!.release()
      yield* Effect.flatMap(queue.take(Failing, 1), ([job]) => job!.complete())
      yield* engine.elapse("1 minute")
      yield* Effect.flatMap(queue.take(Failing, 1), ([job]) => job!.fail("x"))
      yield* queue.retry(Failing, "fails")
      yield* Effect.scoped(queue.take(Failing, 1))
      yield* queue.remove(Failing, "fails")
      yield* queue.remove(Failing, "comes back")
      yield* enqueue("is cancelled", "cancelled")
      yield* queue.cancel(Failing, "is cancelled")
      yield* enqueue("is cancelled while it runs", "active", "cancelled")
      yield* Effect.scoped(Effect.andThen(queue.take(Failing, 1), queue.cancel(Failing, "is cancelled while it runs")))
      yield* enqueue("is drained", "removed")
      yield* queue.clear(Failing)
      yield* enqueue("is lost", "active", "stalled", "active", "completed")
      const stopped = yield* pausableClock
      yield* stopped.pause()
      yield* Effect.provideService(queue.take(Failing, 1), Clock.Clock, stopped.clock)
      yield* engine.elapse("31 seconds")
      yield* stepOnce(Failing)
      yield* Effect.flatMap(queue.take(Failing, 1), ([job]) => job!.complete())
      expected["is promoted"] = ["queued", "queued", "active", "completed"]
      yield* queue.enqueue(Failing, "x", { id: "is promoted", tenant: "of is promoted", delay: "1 hour" })
      yield* queue.promote(Failing, "is promoted")
      yield* Effect.flatMap(queue.take(Failing, 1), ([job]) => job!.complete())
      const count = Object.values(expected).flat().length
      yield* eventually("all events", Effect.sync(() => seen().length >= count))
      for (const id of Object.keys(expected)) assert.deepStrictEqual([id, ...kindsOf(id)], [id, ...expected[id]!])
      for (const event of seen()) {
        assert.deepInclude(event, { queue: Failing.queue, tenant: `of ${event.id}` })
        assert.isAtLeast(event.at, 0)
      }
    }))

  it.effect("misses nothing from when they are live", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      const events = yield* queue.eventsScoped(Text)
      const id = yield* queue.enqueue(Text, "x")
      yield* queue.cancel(Text, id)
      const seen = yield* Stream.runCollect(Stream.take(events, 2))
      assert.deepStrictEqual(seen.map((event) => [event.kind, event.id]), [["queued", id], ["cancelled", id]])
    }))

  it.effect("tells all listeners of many jobs, and of none without a tenant that they had one", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      const listeners = [yield* recordEvents(Text), yield* recordEvents(Text)]
      yield* work(engine, [Text.handler(Effect.succeed)], { concurrency: 20 })
      const ids = yield* queue.enqueueAll(Text, Array.from({ length: 300 }, (_, i) => String(i)))
      for (const { kindsOf, seen } of listeners) {
        yield* eventually(
          "all events",
          Effect.sync(() => seen().filter(({ kind }) => kind === "completed").length === 300)
        )
        for (const id of ids) assert.deepStrictEqual(kindsOf(id), ["queued", "active", "completed"])
        assert.isTrue(seen().every(({ tenant }) => tenant === undefined))
        assert.deepStrictEqual(seen().filter(({ kind }) => kind === "queued").map(({ id }) => id), ids)
      }
    }))

  it.effect("tells of the queue that was asked for, and no other", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const One = textJob()
      const Two = textJob()
      const one = yield* recordEvents(One)
      const two = yield* recordEvents(Two.queue)
      yield* queue.enqueue(One, "x", { id: "one" })
      yield* queue.enqueue(Two, "x", { id: "two" })
      yield* eventually("both", Effect.sync(() => one.seen().length > 0 && two.seen().length > 0))
      assert.deepStrictEqual(one.seen().map(({ id }) => id), ["one"])
      assert.deepStrictEqual(two.seen().map(({ id }) => id), ["two"])
    }))
}
