/** Handlers that harm their own process: they block it past its leases, or kill it. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Errand } from "../support/errandJob.ts"
import { errands, startedIn } from "../support/errands.ts"
import { eventually } from "../support/queuesOnRedis.ts"

describe("A handler that blocks its process for longer than the lease", () => {
  it.live("has its job run elsewhere once, and its own late word refused", () =>
    Effect.gen(function*() {
      const { queue, start, work } = yield* errands
      const blocked = yield* start("blocked", { lease: 300, poll: 50, concurrency: 2 })
      const id = yield* queue.enqueue(Errand, { kind: "block", text: "x" })
      yield* blocked.waitForLine("started x")
      const started = yield* work()
      // No timer and no reply is looked at there, until it reads a line.
      assert.strictEqual(yield* queue.result(Errand, id, { within: "5 seconds" }), "x here")
      yield* blocked.send("go on")
      yield* blocked.waitForLine("finalized x")
      // It has nothing more to say of that job once it has reported on another one.
      const texts = Array.from({ length: 20 }, (_, i) => `next ${i}`)
      const ids = yield* queue.enqueueAll(Errand, texts.map((text) => ({ kind: "echo", text })))
      for (const next of ids) yield* queue.result(Errand, next, { within: "5 seconds" })
      assert.strictEqual(yield* queue.result(Errand, id, { within: "1 second" }), "x here")
      assert.include(yield* queue.counts(Errand), { waiting: 0, active: 0, failed: 0, finished: 21 })
      const here = started.filter(({ text }) => text === "x")
      const there = startedIn(blocked).filter(({ text }) => text === "x")
      assert.deepStrictEqual([...here, ...there].map(({ attempt }) => attempt), [1, 1])
      assert.isAbove(here[0]!.token, there[0]!.token)
    }).pipe(Effect.scoped))

  it.live("is named in the log, with how long it took", () =>
    Effect.gen(function*() {
      const { queue, start, work } = yield* errands
      const blocked = yield* start("blocked", { lease: 300 })
      const id = yield* queue.enqueue(Errand, { kind: "block", text: "x" })
      yield* blocked.waitForLine("started x")
      yield* work()
      yield* queue.result(Errand, id, { within: "5 seconds" })
      yield* blocked.send("go on")
      yield* blocked.waitForLine((line) => line.includes(id) && /blocked the event loop for \D*\d/.test(line), 3000)
    }).pipe(Effect.scoped))

  it.live("does not take the other jobs of its process along: they end elsewhere, or once it is back", () =>
    Effect.gen(function*() {
      const { queue, start, work } = yield* errands
      const blocked = yield* start("blocked", { lease: 300, poll: 50, concurrency: 1 })
      const texts = Array.from({ length: 40 }, (_, i) => `job ${i}`)
      const ids = yield* queue.enqueueAll(
        Errand,
        texts.map((text, i) => ({ kind: i === 20 ? "block" : "echo", text }))
      )
      yield* blocked.waitForLine("started job 20")
      const started = yield* work()
      for (const id of ids.slice(20)) {
        assert.match(yield* queue.result(Errand, id, { within: "5 seconds" }), /^job \d+ here$/)
      }
      yield* blocked.send("go on")
      yield* blocked.waitForLine("finalized job 20")
      yield* eventually("all are done", Effect.map(queue.counts(Errand), ({ finished }) => finished === 40))
      assert.include(yield* queue.counts(Errand), { waiting: 0, active: 0, failed: 0 })
      assert.deepStrictEqual(startedIn(blocked).map(({ text }) => text), texts.slice(0, 21))
      assert.isTrue(started.every(({ attempt }) => attempt === 1))
    }).pipe(Effect.scoped))
})

describe("A job that kills its worker each time", () => {
  /** Starts a worker again whenever it was killed, until the jobs have come to their ends. */
  const untilOver = (concurrency: number) =>
    Effect.gen(function*() {
      const { queue, start } = yield* errands
      const before = Array.from({ length: 10 }, (_, i) => `before ${i}`)
      const behind = Array.from({ length: 20 }, (_, i) => `behind ${i}`)
      const ids = yield* queue.enqueueAll(
        Errand,
        [...before, "poison", ...behind].map((text) => ({ kind: text === "poison" ? "die" : "echo", text }))
      )
      const options = { concurrency, lease: 200, poll: 20 }
      let poisoned = 0
      for (let restarts = 0; restarts < 10; restarts++) {
        const child = yield* start("victim", options)
        const isOver = Effect.map(
          queue.counts(Errand),
          ({ active, delayed, waiting }) => active + delayed + waiting === 0
        )
        yield* Effect.race(child.exit, eventually("all are over", isOver))
        poisoned += startedIn(child).filter(({ text }) => text === "poison").length
        if (yield* isOver) break
      }
      const error = yield* Effect.flip(queue.result(Errand, ids[10]!, { within: "1 second" }))
      assert.include(error, { _tag: "JobFailed", reason: "crashed" })
      assert.include(yield* queue.counts(Errand), { waiting: 0, delayed: 0, active: 0, failed: 1, finished: 30 })
      for (const id of ids.toSpliced(10, 1)) {
        assert.match(yield* queue.result(Errand, id, { within: "1 second" }), /by victim$/)
      }
      assert.strictEqual(poisoned, 3)
    }).pipe(Effect.scoped)

  it.live("is a dead letter after three times, and none of those behind it", () => untilOver(1))

  it.live("is a dead letter after three times, and none of those that were claimed with it", () => untilOver(10))
})
