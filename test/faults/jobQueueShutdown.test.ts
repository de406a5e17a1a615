/** A worker is told to stop by a signal: what it has not done is done elsewhere at once, as if it had never had it. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Errand } from "../support/errandJob.ts"
import { errands, startedIn } from "../support/errands.ts"
import type { NodeProcess } from "../support/processes.ts"
import { eventually, wait } from "../support/queuesOnRedis.ts"

// Far longer than a test takes: whoever waits for it to pass is too late.
const lease = "1 minute"

/** Sends a signal, and waits until the process has seen it. */
const send = (child: NodeProcess, signal: NodeJS.Signals) =>
  Effect.gen(function*() {
    const seen = () => child.output.split(`received ${signal}`).length
    const before = seen()
    process.kill(child.pid, signal)
    yield* eventually(`it has received ${signal}`, Effect.sync(() => seen() > before))
  })

const ended = (child: NodeProcess) =>
  Effect.timeoutOrElse(child.exit, {
    duration: "5 seconds",
    orElse: () => Effect.die(new Error(`It still runs:\n${child.output}`))
  })

// What runMain says of a program that was interrupted.
const interrupted = { code: 130, signal: null }

describe("A worker that is told to stop", () => {
  it.live("starts no more jobs, and lets the one that runs end", () =>
    Effect.gen(function*() {
      const { queue, start, work } = yield* errands
      const closing = yield* start("closing", { concurrency: 5, lease, shutdown: "30 seconds", poll: 20 })
      const running = yield* queue.enqueue(Errand, { kind: "gate", text: "x" })
      yield* closing.waitForLine("started x")
      yield* send(closing, "SIGTERM")
      const ids = yield* queue.enqueueAll(Errand, ["a", "b"].map((text) => ({ kind: "echo", text })))
      yield* wait(60)
      assert.include(yield* queue.counts(Errand), { waiting: 2, active: 1 })
      yield* work({ lease })
      yield* Effect.forEach(ids, (id) => queue.result(Errand, id, { within: "5 seconds" }))
      yield* closing.send("open")
      assert.strictEqual(yield* queue.result(Errand, running, { within: "5 seconds" }), "x by closing")
      assert.deepStrictEqual(yield* ended(closing), interrupted)
      assert.lengthOf(startedIn(closing), 1)
    }).pipe(Effect.scoped))

  it.live("leaves the jobs that it had claimed ahead to others, while one still runs", () =>
    Effect.gen(function*() {
      const { queue, start, work } = yield* errands
      const closing = yield* start("closing", { concurrency: 1, lease, shutdown: "30 seconds" })
      const texts = Array.from({ length: 60 }, (_, i) => `job ${i}`)
      // Many that end at once have it claim many.
      const ids = yield* queue.enqueueAll(Errand, texts.map((text, i) => ({ kind: i === 40 ? "gate" : "echo", text })))
      yield* closing.waitForLine("started job 40")
      yield* send(closing, "SIGTERM")
      const started = yield* work({ lease })
      for (const id of ids.slice(41)) {
        assert.match(yield* queue.result(Errand, id, { within: "5 seconds" }), /^job \d+ here$/)
      }
      assert.isTrue(started.every(({ attempt }) => attempt === 1))
      assert.include(yield* queue.get(Errand, ids[40]!), { state: "active", attempt: 1 })
      yield* closing.send("open")
      assert.strictEqual(yield* queue.result(Errand, ids[40]!, { within: "5 seconds" }), "job 40 by closing")
      assert.deepStrictEqual(yield* ended(closing), interrupted)
      assert.deepStrictEqual(startedIn(closing).map(({ text }) => text), texts.slice(0, 41))
    }).pipe(Effect.scoped))

  it.live("gives back what has not ended in time, without using an attempt", () =>
    Effect.gen(function*() {
      const { queue, start, work } = yield* errands
      const closing = yield* start("closing", { lease, shutdown: 100 })
      const ids = yield* queue.enqueueAll(Errand, ["a", "b"].map((text) => ({ kind: "hang", text })))
      yield* closing.waitForLine("started b")
      const started = yield* work({ lease })
      yield* send(closing, "SIGTERM")
      assert.strictEqual(yield* queue.result(Errand, ids[0]!, { within: "5 seconds" }), "a here")
      assert.strictEqual(yield* queue.result(Errand, ids[1]!, { within: "5 seconds" }), "b here")
      assert.deepStrictEqual(yield* ended(closing), interrupted)
      for (const text of ["a", "b"]) assert.include(closing.output, `finalized ${text}`)
      assert.sameMembers(started.map(({ attempt, text }) => `${text} ${attempt}`), ["a 1", "b 1"])
    }).pipe(Effect.scoped))

  for (const second of ["SIGTERM", "SIGINT"] as const) {
    it.live(`gives back at once when it is told again, with ${second}, and ends`, () =>
      Effect.gen(function*() {
        const { queue, start, work } = yield* errands
        const closing = yield* start("closing", { lease, shutdown: "30 seconds" })
        const id = yield* queue.enqueue(Errand, { kind: "hang", text: "x" })
        yield* closing.waitForLine("started x")
        const started = yield* work({ lease })
        yield* send(closing, "SIGTERM")
        assert.include(yield* queue.get(Errand, id), { state: "active" })
        yield* send(closing, second)
        assert.strictEqual(yield* queue.result(Errand, id, { within: "5 seconds" }), "x here")
        yield* ended(closing)
        assert.include(closing.output, "finalized x")
        assert.deepStrictEqual(started.map(({ attempt }) => attempt), [1])
        assert.include(yield* queue.counts(Errand), { waiting: 0, active: 0, failed: 0, finished: 1 })
      }).pipe(Effect.scoped))
  }
})
