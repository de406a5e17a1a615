/** Jobs that a worker has claimed ahead are nobody's yet: others get them, and what is done to them reaches them. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Schema } from "effect"
import * as Job from "../../src/Job.ts"
import type { JobWorkerOptions } from "../../src/JobWorker.ts"
import { eventually, wait } from "../support/queuesOnRedis.ts"
import { uniqueNamespace } from "../support/sharedRedis.ts"
import { side } from "../support/twoSides.ts"

const Text = Job.make("text", { payload: Schema.String, success: Schema.String })

// One job at a time, and no help from a lease that passes or from looking again and again.
const options: JobWorkerOptions = { concurrency: 1, lease: "1 minute", poll: "1 hour" }

const numbered = (name: string, count: number) => Array.from({ length: count }, (_, i) => `${name} ${i}`)

/** Two workers with connections of their own, whose jobs end at once: but brief ones soon, and the slow one when it is let. */
const workshop = Effect.gen(function*() {
  const namespace = uniqueNamespace()
  const gate = yield* Deferred.make<void>()
  const client = yield* side({ namespace })
  const started: Array<string> = []
  const worker = (name: string) =>
    Effect.flatMap(side({ namespace }), ({ work }) =>
      work([
        Text.handler((text) => {
          started.push(text)
          const pace = text === "slow" ? Deferred.await(gate) : text.startsWith("brief") ? wait(1) : Effect.void
          return Effect.as(pace, `${text} by ${name}`)
        })
      ], options))
  const { queue } = client
  return {
    queue,
    worker,
    /** Payloads, as their jobs start. */
    started,
    open: Deferred.succeed(gate, undefined),
    hasStarted: (text: string) => eventually(`${text} has started`, Effect.sync(() => started.includes(text))),
    finished: (count: number) =>
      eventually(`${count} are done`, Effect.map(queue.counts(Text), ({ finished }) => finished === count)),
    results: (ids: ReadonlyArray<string>) =>
      Effect.forEach(ids, (id) => queue.result(Text, id, { within: "5 seconds" }), { concurrency: 50 })
  }
})

describe("Jobs behind a slow one", () => {
  it.live("are done by a worker that comes later, though all before had ended at once", () =>
    Effect.gen(function*() {
      const { finished, hasStarted, open, queue, results, started, worker } = yield* workshop
      yield* worker("first")
      const ids = yield* queue.enqueueAll(Text, [...numbered("before", 300), "slow", ...numbered("behind", 100)])
      yield* hasStarted("slow")
      yield* worker("second")
      yield* finished(400)
      assert.include(yield* queue.get(Text, ids[300]!), { state: "active", attempt: 1 })
      yield* open
      const by = (yield* results(ids)).map((result) => result.replace(/^.* by /, ""))
      assert.deepStrictEqual(by, ids.map((_, i) => i <= 300 ? "first" : "second"))
      assert.lengthOf(started, 401)
    }).pipe(Effect.scoped))

  it.live("are done by a worker that is idle already, in whatever order they come", () =>
    Effect.gen(function*() {
      const { finished, hasStarted, open, queue, results, started, worker } = yield* workshop
      yield* worker("first")
      yield* worker("second")
      yield* results(yield* queue.enqueueAll(Text, numbered("before", 300)))
      const slow = yield* queue.enqueue(Text, "slow")
      yield* hasStarted("slow")
      yield* queue.enqueueAll(Text, numbered("at once", 50))
      for (const text of numbered("one by one", 10)) {
        yield* results([yield* queue.enqueue(Text, text)])
      }
      yield* finished(360)
      assert.include(yield* queue.get(Text, slow), { state: "active" })
      yield* open
      yield* finished(361)
      assert.lengthOf(started, 361)
    }).pipe(Effect.scoped))

  it.live("keep their order when they are given back", () =>
    Effect.gen(function*() {
      const { finished, hasStarted, open, queue, started, worker } = yield* workshop
      yield* worker("first")
      const behind = numbered("behind", 50)
      yield* queue.enqueueAll(Text, [...numbered("before", 300), "slow", ...behind])
      yield* hasStarted("slow")
      const later = numbered("later", 50)
      yield* queue.enqueueAll(Text, later)
      yield* eventually("they are given back", Effect.map(queue.counts(Text), ({ waiting }) => waiting === 100))
      yield* worker("second")
      yield* finished(400)
      assert.deepStrictEqual(started.slice(301), [...behind, ...later])
      yield* open
    }).pipe(Effect.scoped))
})

describe("Jobs that were claimed ahead", () => {
  it.live("do not start while their queue is paused", () =>
    Effect.gen(function*() {
      const { finished, hasStarted, open, queue, started, worker } = yield* workshop
      yield* worker("first")
      yield* queue.enqueueAll(Text, [...numbered("before", 300), "slow", ...numbered("behind", 100)])
      yield* hasStarted("slow")
      yield* queue.pause(Text)
      yield* wait(50)
      yield* open
      yield* finished(301)
      yield* wait(50)
      assert.lengthOf(started, 301)
      assert.include(yield* queue.counts(Text), { active: 0, waiting: 100, paused: true })
      yield* queue.resume(Text)
      yield* finished(401)
      assert.lengthOf(started, 401)
    }).pipe(Effect.scoped))

  it.live("do not start for long when their queue is paused in full swing", () =>
    Effect.gen(function*() {
      const { finished, queue, started, worker } = yield* workshop
      yield* worker("first")
      yield* worker("second")
      yield* queue.enqueueAll(Text, numbered("brief", 600))
      yield* eventually("many have started", Effect.sync(() => started.length > 100))
      yield* queue.pause(Text)
      yield* wait(50)
      const before = started.length
      yield* wait(50)
      assert.strictEqual(started.length, before)
      yield* queue.resume(Text)
      yield* finished(600)
      assert.lengthOf(started, 600)
    }).pipe(Effect.scoped))

  it.live("are left to others when their worker is paused", () =>
    Effect.gen(function*() {
      const { finished, hasStarted, open, queue, results, worker } = yield* workshop
      const first = yield* worker("first")
      const ids = yield* queue.enqueueAll(Text, [...numbered("before", 300), "slow", ...numbered("behind", 100)])
      yield* hasStarted("slow")
      yield* first.pause
      yield* open
      yield* finished(301)
      yield* wait(20)
      assert.include(yield* queue.counts(Text), { waiting: 100, active: 0 })
      yield* worker("second")
      const by = (yield* results(ids)).map((result) => result.replace(/^.* by /, ""))
      assert.deepStrictEqual(by, ids.map((_, i) => i <= 300 ? "first" : "second"))
    }).pipe(Effect.scoped))

  it.live("never run once they are cancelled or removed", () =>
    Effect.gen(function*() {
      const { finished, hasStarted, open, queue, results, started, worker } = yield* workshop
      yield* worker("first")
      const payloads = [...numbered("before", 300), "slow", "kept", "cancelled", "removed", "kept too", "cancelled too"]
      const ids = yield* queue.enqueueAll(Text, payloads)
      const idOf = (text: string) => ids[payloads.indexOf(text)]!
      yield* hasStarted("slow")
      assert.oneOf(yield* queue.cancel(Text, idOf("cancelled"), { reason: "no more" }), ["cancelled", "requested"])
      yield* eventually("it waits again, and is removed", queue.remove(Text, idOf("removed")))
      yield* wait(20)
      yield* queue.cancel(Text, idOf("cancelled too"))
      yield* open
      yield* results([idOf("slow"), idOf("kept"), idOf("kept too")])
      const error = yield* Effect.flip(queue.result(Text, idOf("cancelled"), { within: "5 seconds" }))
      assert.include(error, { _tag: "JobCancelled", reason: "no more" })
      const other = yield* Effect.flip(queue.result(Text, idOf("cancelled too"), { within: "5 seconds" }))
      assert.strictEqual(other._tag, "JobCancelled")
      assert.isUndefined(yield* queue.get(Text, idOf("removed")))
      yield* finished(305)
      assert.deepStrictEqual(started.slice(300), ["slow", "kept", "kept too"])
    }).pipe(Effect.scoped))
})
