/** A reply is lost after the command ran: nothing is done twice, nothing is lost, and the caller is told the truth. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, type Result, Schema } from "effect"
import * as Job from "../../src/Job.ts"
import type { RedisError } from "../../src/RedisError.ts"
import { eventually, wait } from "../support/queuesOnRedis.ts"
import { record, type TwoSides, twoSides } from "../support/twoSides.ts"

const Text = Job.make("text", {
  payload: Schema.String,
  success: Schema.String,
  error: Schema.String,
  attempts: 2,
  backoff: { kind: "fixed", delay: "1 minute" }
})

const test =
  <A, E>(run: (sides: TwoSides) => Effect.Effect<A, E, Effect.Services<ReturnType<typeof twoSides>>>) => () =>
    Effect.scoped(Effect.flatMap(twoSides(), run))

/** Either it has worked, or the caller knows that it may have. */
const assertHonest = <A, E extends { readonly _tag: string }>(result: Result.Result<A, E | RedisError>, success: A) => {
  if (result._tag === "Success") assert.deepStrictEqual(result.success, success)
  else assert.include(result.failure, { _tag: "RedisError", outcome: "Unknown" })
}

const isFinished = ({ far }: TwoSides, count: number) =>
  Effect.map(far.queue.counts(Text), ({ finished }) => finished === count)

describe("Enqueueing whose reply is lost", () => {
  it.live(
    "stores each of many jobs once that were enqueued together by many callers",
    test(({ far, near, unheard }) =>
      Effect.gen(function*() {
        const texts = Array.from({ length: 30 }, (_, i) => `job ${i}`)
        const all = Effect.forEach(texts, (text) => near.queue.enqueue(Text, text), { concurrency: "unbounded" })
        const ids = yield* Effect.fromResult(yield* unheard(all))
        const jobs = yield* far.queue.take(Text, 100)
        assert.deepStrictEqual(jobs.map(({ id, payload }) => [id, payload]), ids.map((id, i) => [id, texts[i]]))
      })
    )
  )

  it.live(
    "stores a batch with ids of its own once, delayed jobs too",
    test(({ far, near, unheard }) =>
      Effect.gen(function*() {
        const ids = ["one", "two", "three"]
        const enqueue = near.queue.enqueueAll(Text, ["1", "2", "3"], { ids })
        assert.deepStrictEqual(yield* Effect.fromResult(yield* unheard(enqueue)), ids)
        // A caller that did not wait for us asks again.
        yield* enqueue
        yield* unheard(near.queue.enqueue(Text, "later", { id: "four", delay: "1 hour" }))
        assert.include(yield* far.queue.counts(Text), { waiting: 3, delayed: 1 })
        assert.deepStrictEqual((yield* far.queue.take(Text, 5)).map(({ id }) => id), ids)
      })
    )
  )

  it.live(
    "runs a job once that was done before its producer could ask again",
    test((sides) =>
      Effect.gen(function*() {
        const { far, near, proxy } = sides
        const ran: Array<string> = []
        yield* far.work([Text.handler((text) => Effect.sync(() => (ran.push(text), text)))])
        yield* proxy.refuse
        yield* proxy.dropNextReply("evalsha")
        const enqueueing = yield* Effect.forkChild(near.queue.enqueueAll(Text, ["x", "y"]))
        yield* eventually("both are done", isFinished(sides, 2))
        yield* proxy.accept
        const ids = yield* Fiber.join(enqueueing)
        assert.strictEqual(yield* near.queue.result(Text, ids[1]!, { within: "1 second" }), "y")
        assert.include(yield* far.queue.counts(Text), { waiting: 0, active: 0, finished: 2 })
        assert.deepStrictEqual(ran, ["x", "y"])
      })
    )
  )
})

describe("What a worker reports when the reply is lost", () => {
  /** A worker whose first attempt ends, as `end` says, in a report that it does not know to have been heard. */
  const reporting = (
    sides: TwoSides,
    end: Effect.Effect<string, string | Job.Postponed>,
    options: { readonly attempts?: number; readonly backoff?: Job.Backoff } = {}
  ) =>
    Effect.gen(function*() {
      const { far, near, unheard } = sides
      const gate = yield* Deferred.make<void>()
      const attempts: Array<number> = []
      const events = yield* record(far.queue, Text)
      yield* near.work([
        Text.handler((_, { attempt }) => {
          attempts.push(attempt)
          return attempts.length === 1 ? Effect.andThen(Deferred.await(gate), end) : Effect.succeed("the next attempt")
        })
      ], { lease: "1 minute" })
      const id = yield* far.queue.enqueue(Text, "x", options)
      yield* eventually("it runs", Effect.sync(() => attempts.length === 1))
      // Until the worker rests: what it says next is the report.
      yield* wait(30)
      yield* unheard(Deferred.succeed(gate, undefined))
      const result = yield* Effect.result(far.queue.result(Text, id, { within: "5 seconds" }))
      const isOver = () => events.some(({ kind }) => kind === "completed" || kind === "failed")
      yield* eventually("its end is told", Effect.sync(isOver))
      // A second report of the same would come with the next step, if there were one.
      yield* wait(50)
      const told = events.map(({ kind }) => kind).filter((kind) => kind !== "queued" && kind !== "active")
      return { result, attempts, told }
    })

  it.live(
    "completes the job once",
    test((sides) =>
      Effect.gen(function*() {
        const { attempts, result, told } = yield* reporting(sides, Effect.succeed("done"))
        assert.include(result, { _tag: "Success", success: "done" })
        assert.deepStrictEqual({ attempts, told }, { attempts: [1], told: ["completed"] })
      })
    )
  )

  it.live(
    "makes the job a dead letter once",
    test((sides) =>
      Effect.gen(function*() {
        const { attempts, result, told } = yield* reporting(sides, Effect.fail("bad"), { attempts: 1 })
        assert.include(result, { _tag: "Failure", failure: "bad" })
        assert.deepStrictEqual({ attempts, told }, { attempts: [1], told: ["failed"] })
        assert.include(yield* sides.far.queue.counts(Text), { active: 0, failed: 1, finished: 0 })
      })
    )
  )

  it.live(
    "counts a failed attempt once",
    test((sides) =>
      Effect.gen(function*() {
        const backoff: Job.Backoff = { kind: "fixed", delay: 10 }
        const { attempts, result, told } = yield* reporting(sides, Effect.fail("bad"), { backoff })
        assert.include(result, { _tag: "Success", success: "the next attempt" })
        assert.deepStrictEqual({ attempts, told }, { attempts: [1, 2], told: ["retrying", "completed"] })
      })
    )
  )

  it.live(
    "postpones the job once, and without using an attempt",
    test((sides) =>
      Effect.gen(function*() {
        const { attempts, result, told } = yield* reporting(sides, Job.postpone(10))
        assert.include(result, { _tag: "Success", success: "the next attempt" })
        assert.deepStrictEqual({ attempts, told }, { attempts: [1, 1], told: ["released", "completed"] })
      })
    )
  )

  it.live(
    "keeps the lease, when that was to be extended",
    test((sides) =>
      Effect.gen(function*() {
        const { far, near, unheard } = sides
        const gate = yield* Deferred.make<void>()
        const started: Array<number> = []
        const run = Text.handler((_, { attempt }) =>
          Effect.as(
            Effect.andThen(
              Effect.sync(() => started.push(attempt)),
              Deferred.await(gate)
            ),
            "kept"
          )
        )
        yield* near.work([run], { lease: 600 })
        const events = yield* record(far.queue, Text)
        const id = yield* far.queue.enqueue(Text, "x")
        yield* eventually("it runs", Effect.sync(() => started.length === 1))
        yield* unheard(Effect.void)
        yield* far.work([run], { poll: 10 })
        // Past the end of the lease as it was first given.
        yield* wait(600)
        yield* Deferred.succeed(gate, undefined)
        assert.strictEqual(yield* far.queue.result(Text, id, { within: "1 second" }), "kept")
        assert.deepStrictEqual(started, [1])
        assert.notInclude(events.map(({ kind }) => kind), "stalled")
      })
    )
  )
})

describe("What the holder of a job says when the reply is lost", () => {
  /** Says it until there is an answer, as a caller would that knows it to be safe. */
  const insist = <A, E extends { readonly _tag: string }, R>(
    { unheard }: TwoSides,
    say: Effect.Effect<A, E | RedisError, R>
  ) =>
    Effect.flatMap(unheard(say), (first) => {
      assertHonest(first, undefined)
      return first._tag === "Success" ? Effect.void : Effect.asVoid(say)
    })

  it.live(
    "fails the job for good once",
    test((sides) =>
      Effect.gen(function*() {
        const { far, near } = sides
        const events = yield* record(far.queue, Text)
        const id = yield* far.queue.enqueue(Text, "x", { attempts: 1 })
        const [job] = yield* near.queue.take(Text, 1)
        yield* insist(sides, job!.fail("bad"))
        assert.strictEqual(yield* Effect.flip(far.queue.result(Text, id, { within: "1 second" })), "bad")
        yield* far.queue.retry(Text, id)
        yield* eventually("all is told", Effect.sync(() => events.filter(({ kind }) => kind === "queued").length === 2))
        assert.deepStrictEqual(events.map(({ kind }) => kind), ["queued", "active", "failed", "queued"])
      })
    )
  )

  it.live(
    "counts the failed attempt once, and lets its backoff run once",
    test((sides) =>
      Effect.gen(function*() {
        const { clock, far, near, proxy, unheard } = sides
        const id = yield* far.queue.enqueue(Text, "x")
        const [job] = yield* near.queue.take(Text, 1)
        const first = yield* unheard(job!.fail("bad"))
        assertHonest(first, undefined)
        const before = yield* far.queue.get(Text, id)
        assert.include(before, { state: "delayed", attempt: 1 })
        clock.offsetMillis += 30_000
        if (first._tag === "Failure") yield* job!.fail("bad")
        assert.deepStrictEqual(yield* far.queue.get(Text, id), before)
        clock.offsetMillis += 30_001
        const [again] = yield* far.queue.take(Text, 1)
        assert.include(again, { id, attempt: 2 })
        assert.strictEqual(proxy.severed, 1)
      })
    )
  )

  it.live(
    "does no harm to whoever has the next attempt by then",
    test((sides) =>
      Effect.gen(function*() {
        const { far, near, unheard } = sides
        const id = yield* far.queue.enqueue(Text, "x", { backoff: { kind: "fixed", delay: 0 } })
        const [job] = yield* near.queue.take(Text, 1)
        assertHonest(yield* unheard(job!.fail("bad")), undefined)
        const [next] = yield* far.queue.take(Text, 1)
        assert.include(next, { id, attempt: 2 })
        yield* Effect.ignore(job!.fail("bad"))
        yield* next!.complete("by the next")
        assert.strictEqual(yield* far.queue.result(Text, id, { within: "1 second" }), "by the next")
      })
    )
  )

  it.live(
    "gives the job back once",
    test((sides) =>
      Effect.gen(function*() {
        const { far, near } = sides
        const events = yield* record(far.queue, Text)
        const id = yield* far.queue.enqueue(Text, "x")
        const [job] = yield* near.queue.take(Text, 1)
        yield* insist(sides, job!.release())
        const jobs = yield* far.queue.take(Text, 5)
        assert.deepStrictEqual(jobs.map(({ attempt, id }) => ({ attempt, id })), [{ attempt: 1, id }])
        yield* eventually("all is told", Effect.sync(() => events.filter(({ kind }) => kind === "active").length === 2))
        assert.deepStrictEqual(events.map(({ kind }) => kind), ["queued", "active", "released", "active"])
      })
    )
  )
})
