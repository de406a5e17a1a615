/** The job queue's contract: how workers work on a queue of several partitions. */
import { assert } from "@effect/vitest"
import { Clock, Deferred, Effect, Layer } from "effect"
import { JobQueue } from "../../../src/JobQueue.ts"
import { pausableClock } from "../../support/pausableClock.ts"
import { eventually, many, moment, type Part, spreadJob, stepOnce, untilLength, work, workUntil } from "./support.ts"

export const partitionWork: Part = (it, engine) => {
  it.effect("starts jobs with the same key in the order in which they were enqueued", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Spread = spreadJob({ partitions: 3 })
      const started: Array<string> = []
      yield* work(engine, [
        Spread.handler((text) =>
          Effect.gen(function*() {
            started.push(text)
            if (Number(text.split(":")[1]) % 3 === 0) yield* moment
            return text
          })
        )
      ], { concurrency: 1 })
      const keys = many.slice(0, 8)
      for (let n = 0; n < 24; n++) {
        // Some while it works, some while it waits for more.
        if (n % 8 === 7) yield* untilLength(started, n * keys.length)
        for (const key of keys) {
          const text = `${key}:${n}`
          if (n % 3 === 0) yield* queue.enqueue(Spread, text, { key })
          else if (n % 3 === 1) yield* queue.enqueue(Spread, text, { key, id: text })
          else yield* queue.enqueueAll(Spread, [text], { key })
        }
      }
      yield* untilLength(started, 24 * keys.length)
      for (const key of keys) {
        const own = started.filter((text) => text.startsWith(`${key}:`))
        assert.deepStrictEqual(own, Array.from({ length: 24 }, (_, n) => `${key}:${n}`))
      }
    }))

  it.effect("wakes an idle worker from each partition, without looking again and again", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Spread = spreadJob()
      yield* work(engine, [Spread.handler((text) => Effect.succeed(`${text}!`))], { concurrency: 1, poll: "1 hour" })
      yield* engine.elapse("1 second")
      for (const key of many) {
        const id = yield* queue.enqueue(Spread, key, { key })
        assert.strictEqual(yield* queue.result(Spread, id, { within: "1 minute" }), `${key}!`)
      }
    }))

  it.effect("runs as many jobs at once as it may over all partitions, and never more", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Spread = spreadJob()
      let running = 0
      let most = 0
      let done = 0
      yield* work(engine, [
        Spread.handler((text) =>
          Effect.gen(function*() {
            most = Math.max(most, ++running)
            for (let i = 0; i < text.length % 4; i++) yield* moment
            running--
            done++
            return text
          })
        )
      ], { concurrency: 3 })
      for (let round = 0; round < 5; round++) {
        for (const key of many) yield* queue.enqueue(Spread, key, { key })
      }
      yield* queue.enqueueAll(Spread, many)
      yield* queue.enqueueAll(Spread, many, { ids: many })
      yield* eventually("all are done", Effect.sync(() => done === 7 * many.length))
      assert.strictEqual(most, 3)
      yield* eventually("all are reported", Effect.map(queue.counts(Spread), ({ active }) => active === 0))
      assert.include(yield* queue.counts(Spread), { waiting: 0, finished: 7 * many.length, failed: 0 })
    }))

  it.effect("lets no partition wait for ever while others always have jobs", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      for (const concurrency of [1, 10]) {
        const Spread = spreadJob()
        const seen = new Set<string>()
        let hot = 0
        // Busy keys have a next job before the last one ends, until one of each other key has run.
        yield* work(engine, [
          Spread.handler((key) =>
            Effect.gen(function*() {
              hot++
              if (hot === 200) {
                yield* Effect.forEach(many.slice(2), (key) => Effect.orDie(queue.enqueue(Spread, key, { key })))
              }
              if (key !== many[0]) seen.add(key)
              else if (hot < 200 || seen.size < many.length - 2) {
                yield* Effect.orDie(queue.enqueue(Spread, key, { key }))
              }
              return key
            })
          )
        ], { concurrency })
        // More than a worker holds.
        yield* queue.enqueueAll(Spread, Array.from({ length: 600 }, () => many[0]!), { key: many[0]! })
        yield* eventually("all have run", Effect.sync(() => seen.size === many.length - 2))
        yield* eventually("it ends", Effect.map(queue.counts(Spread), ({ active, waiting }) => active + waiting === 0))
      }
    }))

  it.effect("keeps no job that another worker could start", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Spread = spreadJob()
      const latch = yield* Deferred.make<void>()
      // It gives back what it cannot start as it gets it: no time passes for it.
      const stopped = yield* pausableClock
      yield* stopped.pause()
      const busy = yield* Effect.provideService(
        workUntil(engine, [Spread.handler((text) => Effect.as(Deferred.await(latch), text))], {
          concurrency: 1,
          poll: "1 hour"
        }),
        Clock.Clock,
        stopped.clock
      )
      const first = yield* queue.enqueue(Spread, "first", { key: many[0] })
      yield* eventually("it is full", Effect.map(busy.worker.running, (running) => running === 1))
      yield* work(engine, [Spread.handler((text) => Effect.succeed(text))], { concurrency: 1, poll: "1 hour" })
      yield* engine.elapse(10)
      for (const key of many) {
        const id = yield* queue.enqueue(Spread, key, { key })
        assert.strictEqual(yield* queue.result(Spread, id, { within: "1 minute" }), key)
      }
      yield* Deferred.succeed(latch, undefined)
      assert.strictEqual(yield* queue.result(Spread, first, { within: "1 minute" }), "first")
    }))

  it.effect("runs one job at a time of those that have one crash left, over all partitions", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Spread = spreadJob()
      const keys = many.slice(0, 6)
      for (const key of keys) yield* queue.enqueue(Spread, key, { key })
      const stopped = yield* pausableClock
      yield* stopped.pause()
      yield* Effect.provideService(queue.take(Spread, keys.length), Clock.Clock, stopped.clock)
      yield* engine.elapse("31 seconds")
      yield* stepOnce(Spread)
      assert.include(yield* queue.counts(Spread), { waiting: keys.length, active: 0 })
      let running = 0
      let most = 0
      let done = 0
      yield* work(engine, [
        Spread.handler((text) =>
          Effect.gen(function*() {
            most = Math.max(most, ++running)
            for (let i = 0; i < 5; i++) yield* moment
            running--
            done++
            return text
          })
        )
      ], { concurrency: 6 })
      yield* eventually(
        "all are done",
        Effect.map(engine.elapse("100 millis"), () => done === keys.length)
      )
      assert.strictEqual(most, 1)
    }).pipe(Effect.provide(Layer.fresh(Layer.orDie(engine.layer({ maxCrashes: 2 }))))))

  it.effect("pauses and resumes all partitions, and starts nothing in between", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Spread = spreadJob()
      const seen: Array<string> = []
      const handler = Spread.handler((text) => Effect.sync(() => (seen.push(text), text)))
      const { worker } = yield* workUntil(engine, [handler], { concurrency: 2 })
      assert.include(yield* queue.counts(Spread), { paused: false })
      yield* queue.pause(Spread)
      assert.include(yield* queue.counts(Spread), { paused: true })
      for (const key of many) yield* queue.enqueue(Spread, key, { key })
      yield* engine.elapse("3 seconds")
      assert.deepStrictEqual(seen, [])
      assert.include(yield* queue.counts(Spread), { waiting: many.length, active: 0 })
      yield* worker.pause
      yield* queue.resume(Spread)
      yield* engine.elapse("3 seconds")
      assert.deepStrictEqual(seen, [])
      yield* worker.resume
      yield* untilLength(seen, many.length)
      assert.sameMembers(seen, many)
    }))

  it.effect("gives back what has not ended when a worker closes, wherever it came from", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Spread = spreadJob()
      const { close } = yield* workUntil(engine, [Spread.handler(() => Effect.never)], { concurrency: 25 })
      const ids = yield* Effect.forEach(many, (key) => queue.enqueue(Spread, key, { key }))
      yield* eventually("it is full", Effect.map(queue.counts(Spread), ({ active }) => active >= 25))
      yield* close
      assert.include(yield* queue.counts(Spread), { active: 0, waiting: many.length })
      for (const id of ids) assert.include(yield* queue.get(Spread, id), { state: "waiting", attempt: 0 })
      // Nobody is called who has gone.
      yield* work(engine, [Spread.handler(Effect.succeed)], { concurrency: 2 })
      for (const [i, id] of ids.entries()) {
        assert.strictEqual(yield* queue.result(Spread, id, { within: "1 minute" }), many[i])
      }
    }))
}
