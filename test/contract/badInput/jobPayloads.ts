/** The job queue's contract: payloads, results and errors of any kind come through as they are, or are refused. */
import { assert } from "@effect/vitest"
import { Effect, Schema } from "effect"
import * as Job from "../../../src/Job.ts"
import { JobQueue } from "../../../src/JobQueue.ts"
import { type Part, unique } from "../jobQueue/support.ts"
import {
  anyJson,
  anyKinds,
  assertUnpolluted,
  badKinds,
  depthOf,
  depths,
  forAll,
  Kinds,
  nested,
  refuses,
  Tree,
  tree
} from "./support.ts"

const maxBytes = 1024 * 1024

/** A job of its own queue that takes, yields and fails with what the schema says. */
const mirror = <A>(schema: Schema.Codec<A, any>) =>
  Job.make(unique("mirror"), { payload: schema, success: schema, error: schema, attempts: 1 })

/** Enqueues, takes and completes, and yields what was taken and what came out. */
const throughQueue = <A>(job: Job.Job<string, A, A, A>, payload: A) =>
  Effect.scoped(Effect.gen(function*() {
    const queue = yield* JobQueue
    const id = yield* queue.enqueue(job, payload)
    const [taken] = yield* queue.take(job, 1)
    yield* taken!.complete(taken!.payload)
    return [taken!.payload, yield* queue.result(job, id, { within: "1 minute" })]
  }))

/** Takes a job that nobody has to refuse, and fails it. */
const failWith = <A>(job: Job.Job<string, A, A, A>, payload: A) =>
  Effect.scoped(Effect.gen(function*() {
    const queue = yield* JobQueue
    const id = yield* queue.enqueue(job, payload)
    const [taken] = yield* queue.take(job, 1)
    yield* taken!.fail(payload)
    return yield* Effect.flip(queue.result(job, id, { within: "1 minute" }))
  }))

export const badPayloads: Part = (it) => {
  it.effect("carries any JSON as data, as a payload, a result and an error", () =>
    Effect.gen(function*() {
      const job = mirror(Schema.Unknown)
      yield* forAll(anyJson, 60, (value) =>
        Effect.gen(function*() {
          assert.deepStrictEqual(yield* throughQueue(job, value), [value, value])
          assert.deepStrictEqual(yield* failWith(job, value), value)
        }))
      assertUnpolluted()
    }))

  it.effect("carries what a schema makes JSON of, and refuses what it cannot", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const job = mirror(Kinds)
      yield* forAll(anyKinds, 40, (value) =>
        Effect.gen(function*() {
          assert.deepStrictEqual(yield* throughQueue(job, value), [value, value])
          assert.deepStrictEqual(yield* failWith(job, value), value)
        }))
      const fine = { ...badKinds[0]!, date: new Date(0) }
      for (const value of badKinds) {
        yield* refuses("payload", queue.enqueue(job, value))
        yield* refuses("payload", queue.enqueueAll(job, [fine, value]))
        yield* Effect.scoped(Effect.gen(function*() {
          yield* queue.enqueue(job, fine)
          const [taken] = yield* queue.take(job, 1)
          yield* refuses("result", taken!.complete(value))
          yield* refuses("error", taken!.fail(value))
          yield* taken!.complete(fine)
        }))
      }
      assert.strictEqual(yield* queue.size(job), 0)
    }))

  it.effect("carries what is as large as it may be, and nothing larger", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const job = mirror(Schema.String)
      for (const unit of ["x", "ä"]) {
        // With its quotes, it takes exactly as much as there may be.
        const full = unit.repeat((maxBytes - 2) / Buffer.byteLength(unit))
        for (const text of yield* throughQueue(job, full)) assert.isTrue(text === full)
        yield* refuses("payload", queue.enqueue(job, `${full}x`))
        yield* Effect.scoped(Effect.gen(function*() {
          yield* queue.enqueue(job, "x")
          const [taken] = yield* queue.take(job, 1)
          yield* refuses("result", taken!.complete(`${full}x`))
          yield* refuses("error", taken!.fail(`${full}x`))
          yield* taken!.complete("x")
        }))
      }
      const full = "x".repeat(maxBytes - 2)
      const most = Array.from({ length: 16 }, () => full)
      assert.lengthOf(yield* queue.enqueueAll(job, most), 16)
      yield* queue.clear(job)
      yield* refuses("batch", queue.enqueueAll(job, [...most, ""]))
      const many = Array.from({ length: 1000 }, () => "x")
      assert.lengthOf(yield* queue.enqueueAll(job, many), 1000)
      yield* refuses("batch", queue.enqueueAll(job, [...many, "x"]))
      assert.strictEqual(yield* queue.clear(job), 1000)
    }))

  it.effect("brings what is nested deeply, or says that it is too deep", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const deep = mirror(Schema.Unknown)
      const trees = mirror(Tree)
      let refused = 0
      const tooDeep = (error: unknown) => {
        refused++
        assert.include(error, { _tag: "InvalidInput", problem: "it is nested too deeply" })
      }
      for (const levels of depths) {
        const done = yield* Effect.result(throughQueue(deep, nested(levels)))
        if (done._tag === "Success") assert.deepStrictEqual(done.success.map(depthOf), [levels, levels])
        else tooDeep(done.failure)
        const planted = yield* Effect.result(queue.enqueue(trees, tree(levels)))
        if (planted._tag === "Failure") tooDeep(planted.failure)
      }
      assert.isAbove(refused, 0)
    }))

  it.effect("tells what is wrong with a payload or a result without a part of it, its keys included", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Scores = Schema.Struct({ scores: Schema.Record(Schema.String, Schema.Struct({ n: Schema.Finite })) })
      const text = { scores: { s3cr3t: { n: "s3cr3t" } } }
      const old = mirror(Schema.Unknown)
      const job = Job.make(old.name, { payload: Scores, success: Scores })
      const unwritten = yield* Effect.flip(queue.enqueue(job, text as unknown as typeof Scores.Type))
      const lost = yield* queue.enqueue(old, text)
      assert.deepStrictEqual(yield* Effect.scoped(queue.take(job, 1)), [])
      const undecodable = yield* Effect.flip(queue.result(job, lost, { within: "1 minute" }))
      const [id] = yield* queue.enqueueAll(old, [text])
      yield* Effect.scoped(Effect.flatMap(queue.take(old, 1), ([taken]) => taken!.complete(text)))
      const unread = yield* Effect.flip(queue.result(job, id!, { within: "1 minute" }))
      for (const error of [unwritten, undecodable, unread]) {
        assert.include(error.message, `["scores"]["…"]["n"]`)
        assert.notInclude(error.message, "s3cr3t")
      }
    }))
}
