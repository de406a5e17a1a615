/** The job queue's contract: what is refused, and what comes through as it is. */
import { assert } from "@effect/vitest"
import { Effect, Result, Schema } from "effect"
import * as fc from "fast-check"
import * as Job from "../../../src/Job.ts"
import type { EnqueueOptions } from "../../../src/JobInfo.ts"
import { JobQueue } from "../../../src/JobQueue.ts"
import { failingJob, type Part, refuses, textJob, unique } from "./support.ts"

const loneSurrogate = "a\ud800b"

/** What an id or a tenant may be. */
const anyId = fc.oneof(fc.string({ unit: "binary", minLength: 1, maxLength: 60 }), fc.string({ minLength: 1 })).filter(
  (id) => !/\p{Cc}/u.test(id) && id.isWellFormed() && Buffer.byteLength(id) <= 256
)

const anyText = fc.oneof(fc.string({ unit: "binary" }), fc.constantFrom("\0", "\u0001", "\n", ";", "1;0;0;;5;", "\\0"))

export const input: Part = (it, engine) => {
  it.effect("refuses options that make no sense, and stores nothing", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      const bad: ReadonlyArray<readonly [string, ReadonlyArray<EnqueueOptions>]> = [
        ["delay", [-1, NaN, Infinity, -Infinity, 1e300, 5e15].map((delay) => ({ delay }))],
        ["delay", [{ delay: "-1 second" }, { delay: 5, at: 5 }]],
        ["at", [-1, NaN, Infinity, 8.7e15].map((at) => ({ at }))],
        ["priority", [-1, 10, 1.5, NaN, Infinity].map((priority) => ({ priority }))],
        ["attempts", [0, -1, 1.5, NaN, Infinity, 1e9].map((attempts) => ({ attempts }))],
        ["timeout", [0, -1, NaN, Infinity].map((timeout) => ({ timeout }))],
        ["backoff", [-1, NaN, Infinity, 1e300].map((delay) => ({ backoff: { kind: "fixed", delay } as const }))],
        ["backoff", [-1, NaN, Infinity].map((max) => ({ backoff: { kind: "exponential", delay: 1, max } as const }))],
        [
          "backoff",
          [0, 0.5, -1, NaN, Infinity].map((factor) => ({
            backoff: { kind: "exponential", delay: 1, factor } as const
          }))
        ],
        [
          "backoff",
          [-0.1, 1.1, NaN].map((jitter) => ({ backoff: { kind: "exponential", delay: 1, jitter } as const }))
        ],
        ["tenant", ["", loneSurrogate, "a\nb", "a\0b", "x".repeat(257)].map((tenant) => ({ tenant }))],
        ["job id", ["", loneSurrogate, "a\nb", "a\0b", "a\u0001b", "\u{1F600}".repeat(65)].map((id) => ({ id }))],
        [
          "tags",
          [[loneSurrogate], ["x".repeat(1025)], Array.from({ length: 600 }, () => "x")].map((tags) => ({ tags }))
        ]
      ]
      for (const [input, all] of bad) {
        for (const options of all) yield* refuses(input, queue.enqueue(Text, "x", options))
      }
      for (
        const job of [
          failingJob({ attempts: 0 }),
          failingJob({ timeout: 0 }),
          failingJob({ priority: -1 }),
          failingJob({ backoff: { kind: "fixed", delay: NaN } })
        ]
      ) {
        assert.strictEqual((yield* Effect.flip(queue.enqueue(job, "x")))._tag, "InvalidInput")
        assert.strictEqual(yield* queue.size(job), 0)
      }
      assert.strictEqual(yield* queue.size(Text), 0)
    }))

  it.effect("refuses names and ids that no key can be made of", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const make = (name: string, queueName?: string) =>
        Job.make(name, { payload: Schema.String, ...(queueName === undefined ? {} : { queue: queueName }) })
      for (const name of ["", loneSurrogate, "x".repeat(513)]) {
        yield* refuses("queue name", queue.enqueue(make(name), "x"))
        yield* refuses("job name", queue.enqueue(make(name, unique("fine")), "x"))
        yield* refuses("queue name", queue.counts(name))
        yield* refuses("queue name", queue.take(make("fine", name), 1))
        yield* refuses("queue name", queue.result(make("fine", name), "x", { within: 1 }))
      }
      const Text = textJob()
      for (const id of ["", loneSurrogate, "a\0b"]) {
        yield* refuses("job id", queue.get(Text, id))
        yield* refuses("job id", queue.cancel(Text, id))
        yield* refuses("job id", queue.remove(Text, id))
        yield* refuses("job id", queue.retry(Text, id))
        yield* refuses("job id", queue.promote(Text, id))
        yield* refuses("job id", queue.result(Text, id, { within: 1 }))
      }
    }))

  it.effect("refuses what it cannot take, wait for, or list", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      yield* queue.enqueue(Text, "x")
      for (const count of [0, -1, 1.5, NaN, Infinity, 501]) yield* refuses("count", queue.take(Text, count))
      for (const wait of [-1, NaN, Infinity]) yield* refuses("wait", queue.take(Text, 1, { wait }))
      for (const lease of [0, 99, -1, NaN, Infinity]) yield* refuses("lease", queue.take(Text, 1, { lease }))
      for (const within of [-1, NaN, Infinity]) yield* refuses("within", queue.result(Text, "x", { within }))
      for (const limit of [0, -1, 1.5, NaN, Infinity, 1001]) {
        yield* refuses("limit", queue.list(Text, { state: "waiting", limit }))
      }
      for (const cursor of ["", "x", "-1", "1:", "1e9", "1:2:3", "9".repeat(30)]) {
        for (const state of ["waiting", "delayed", "finished"] as const) {
          yield* refuses("cursor", queue.list(Text, { state, cursor }))
        }
      }
      for (const limit of [-1, NaN]) yield* refuses("limit", queue.replay(Text, { limit }))
      for (const reason of [loneSurrogate, "x".repeat(1025)]) {
        yield* refuses("reason", queue.cancel(Text, "x", { reason }))
      }
      assert.include(yield* queue.counts(Text), { waiting: 1, active: 0 })
    }))

  it.effect("keeps queues apart whatever their names are", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const suffix = unique("")
      const names = [
        "a",
        "A",
        "a:b",
        "a*",
        "{a}",
        "}",
        "{",
        "a b",
        "a\nb",
        "%7Da",
        "é",
        "e\u0301",
        "\u{1F600}",
        "@",
        "\0"
      ]
        .map((name) => `${name}${suffix}`)
      const jobs = names.map((queue) => Job.make("same", { payload: Schema.String, queue }))
      for (const job of jobs) yield* queue.enqueue(job, job.queue, { id: "same" })
      for (const job of jobs) {
        assert.strictEqual(yield* queue.size(job.queue), 1)
        const [taken] = yield* queue.take(job, 5)
        assert.include(taken, { id: "same", payload: job.queue })
        yield* taken!.complete()
      }
    }))

  it.effect("carries any payload, tenant, tags and id", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Any = Job.make(`{any};${unique("name")}`, {
        queue: unique("any"),
        payload: Schema.Unknown,
        success: Schema.Unknown,
        error: Schema.Unknown,
        attempts: 1
      })
      const job = fc.record({
        id: anyId,
        // Without -0, which JSON writes as 0.
        payload: fc.jsonValue({ depthSize: "small" }).map((value): unknown => JSON.parse(JSON.stringify(value))),
        tenant: fc.option(anyId, { nil: undefined }),
        tags: fc.array(anyText.filter((text) => text.isWellFormed()), { maxLength: 5 })
      })
      const context = yield* Effect.context<JobQueue>()
      let round = 0
      const check = ({ id: end, payload, tags, tenant }: typeof job extends fc.Arbitrary<infer A> ? A : never) =>
        Effect.scoped(
          Effect.gen(function*() {
            const id = `${Array.from(end).slice(0, 20).join("")}${++round}`
            yield* queue.enqueue(Any, payload, { id, tenant, tags })
            assert.deepInclude(yield* queue.get(Any, id), {
              id,
              name: Any.name,
              payload,
              tenant,
              tags,
              state: "waiting"
            })
            assert.deepStrictEqual((yield* queue.list(Any, { state: "waiting" })).jobs.map((each) => each.id), [id])
            const [taken] = yield* queue.take(Any, 2)
            assert.deepInclude(taken, { id, payload })
            const way = round % 3
            if (way === 0) yield* taken!.complete(payload)
            else if (way === 1) yield* taken!.fail(payload)
            else yield* queue.cancel(Any, id, { reason: end })
            if (way === 2) yield* taken!.release()
            const outcome = yield* Effect.result(queue.result(Any, id, { within: "1 minute" }))
            if (Result.isSuccess(outcome)) assert.deepStrictEqual([way, outcome.success], [0, payload])
            else if (way === 1) assert.deepStrictEqual(outcome.failure, payload)
            else assert.include(outcome.failure, { _tag: "JobCancelled", id, reason: end })
            assert.deepInclude(yield* queue.get(Any, id), { id, name: Any.name, tenant })
          }).pipe(Effect.ensuring(Effect.orDie(queue.clear(Any))))
        )
      yield* Effect.promise(() =>
        fc.assert(
          fc.asyncProperty(job, (each) => Effect.runPromiseWith(context)(check(each))),
          { numRuns: 150 }
        )
      )
      yield* engine.elapse(1)
    }))
}
