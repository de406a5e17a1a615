/** The job queue's contract: how long things are remembered. */
import { assert } from "@effect/vitest"
import { Clock, Effect, Layer } from "effect"
import { JobQueue, type JobQueueOptions } from "../../../src/JobQueue.ts"
import { pausableClock } from "../../support/pausableClock.ts"
import { failingJob, listAll, type Part, refuses, stateOf, stepOnce, textJob } from "./support.ts"

export const keeping: Part = (it, engine) => {
  const withOptions = <A, E, R>(options: JobQueueOptions, test: Effect.Effect<A, E, R>) =>
    Effect.provide(test, Layer.orDie(engine.layer(options)))

  it.effect("keeps outcomes for an hour, and dead letters for 14 days", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Failing = failingJob({ attempts: 1 })
      const [done, dead, cancelled] = yield* queue.enqueueAll(Failing, ["done", "dead", "cancelled"])
      yield* Effect.scoped(Effect.gen(function*() {
        const jobs = yield* queue.take(Failing, 2)
        yield* jobs[0]!.complete()
        yield* jobs[1]!.fail("x")
      }))
      yield* queue.cancel(Failing, cancelled!)
      yield* engine.elapse("59 minutes")
      yield* stepOnce(Failing)
      assert.strictEqual(yield* stateOf(Failing, done!), "completed")
      assert.strictEqual(yield* stateOf(Failing, cancelled!), "cancelled")
      yield* engine.elapse("2 minutes")
      yield* stepOnce(Failing)
      for (const id of [done!, cancelled!]) {
        assert.isUndefined(yield* queue.get(Failing, id))
        assert.include(yield* Effect.flip(queue.result(Failing, id, { within: "1 minute" })), { _tag: "ResultExpired" })
      }
      assert.include(yield* queue.counts(Failing), { finished: 0, failed: 1 })
      yield* engine.elapse("13 days")
      yield* stepOnce(Failing)
      assert.strictEqual(yield* stateOf(Failing, dead!), "failed")
      yield* engine.elapse("1 day")
      yield* stepOnce(Failing)
      assert.include(yield* Effect.flip(queue.result(Failing, dead!, { within: "1 minute" })), {
        _tag: "ResultExpired"
      })
      assert.include(yield* queue.counts(Failing), { failed: 0 })
      // What is forgotten can come again.
      yield* queue.enqueue(Failing, "again", { id: done! })
      assert.strictEqual((yield* queue.take(Failing, 1))[0]?.payload, "again")
    }))

  it.effect("keeps outcomes and dead letters as long as the options say", () =>
    withOptions(
      { retention: { age: "10 minutes" }, deadLetters: { age: "20 minutes" } },
      Effect.gen(function*() {
        const queue = yield* JobQueue
        const Failing = failingJob({ attempts: 1 })
        yield* queue.enqueueAll(Failing, ["done", "dead"])
        const jobs = yield* queue.take(Failing, 2)
        yield* jobs[0]!.complete()
        yield* jobs[1]!.fail("x")
        yield* engine.elapse("9 minutes")
        yield* stepOnce(Failing)
        assert.include(yield* queue.counts(Failing), { finished: 1, failed: 1 })
        yield* engine.elapse("2 minutes")
        yield* stepOnce(Failing)
        assert.include(yield* queue.counts(Failing), { finished: 0, failed: 1 })
        yield* engine.elapse("10 minutes")
        yield* stepOnce(Failing)
        assert.include(yield* queue.counts(Failing), { finished: 0, failed: 0 })
      })
    ))

  it.effect("keeps as many outcomes as the options say, the newest ones", () =>
    withOptions(
      { retention: { count: 7 } },
      Effect.gen(function*() {
        const queue = yield* JobQueue
        const Text = textJob()
        const ids = Array.from({ length: 30 }, (_, i) => `job ${i}`)
        yield* queue.enqueueAll(Text, ids, { ids })
        for (const job of yield* queue.take(Text, 4)) yield* job.complete("x")
        // Ended in one step: more than are kept.
        yield* Effect.forEach(yield* queue.take(Text, 26), (job) => job.complete("x"), { concurrency: "unbounded" })
        for (let i = 0; i < 10; i++) yield* stepOnce(Text)
        assert.include(yield* queue.counts(Text), { finished: 7 })
        assert.deepStrictEqual((yield* listAll(Text, "finished", 3)).map(({ id }) => id), ids.slice(-7).toReversed())
      })
    ))

  it.effect("makes a job a dead letter when its holders have died too often", () =>
    withOptions(
      { maxCrashes: 2 },
      Effect.gen(function*() {
        const queue = yield* JobQueue
        const Text = textJob()
        const id = yield* queue.enqueue(Text, "x", { tenant: "t" })
        const stopped = yield* pausableClock
        yield* stopped.pause()
        const lose = Effect.gen(function*() {
          const [job] = yield* Effect.provideService(queue.take(Text, 1), Clock.Clock, stopped.clock)
          assert.include(job, { id, attempt: 1 })
          yield* engine.elapse("31 seconds")
        })
        yield* lose
        yield* stepOnce(Text)
        assert.include(yield* queue.get(Text, id), { state: "waiting", attempt: 0 })
        yield* lose
        const other = yield* queue.enqueue(Text, "y")
        yield* stepOnce(Text)
        const error = yield* Effect.flip(queue.result(Text, id, { within: "1 minute" }))
        assert.include(error, {
          _tag: "JobFailed",
          reason: "crashed",
          detail: "its worker died, or lost its lease, 2 times"
        })
        assert.include(yield* queue.get(Text, id), { state: "failed", attempt: 1, tenant: "t" })
        // Run again, it may crash as often again.
        assert.isTrue(yield* queue.retry(Text, id))
        assert.strictEqual((yield* queue.take(Text, 1))[0]?.id, other)
        yield* lose
        yield* stepOnce(Text)
        assert.strictEqual(yield* stateOf(Text, id), "waiting")
      })
    ))

  it.effect("refuses options that are out of range", () =>
    Effect.gen(function*() {
      const bad: ReadonlyArray<readonly [string, JobQueueOptions]> = [
        ...[-1, NaN, Infinity, 1e300].flatMap((age) =>
          [
            ["retention.age", { retention: { age } }],
            ["deadLetters.age", { deadLetters: { age } }]
          ] as const
        ),
        ...[-1, NaN, Infinity, 1.5].flatMap((count) =>
          [
            ["retention.count", { retention: { count } }],
            ["maxCrashes", { maxCrashes: count }],
            ["eventBatches", { eventBatches: count }]
          ] as const
        ),
        ["maxCrashes", { maxCrashes: 0 }]
      ]
      for (const [input, options] of bad) yield* refuses(input, Effect.scoped(Layer.build(engine.layer(options))))
    }))
}
