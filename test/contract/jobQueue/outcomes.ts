/** The job queue's contract: results, failures, retries and dead letters. */
import { assert } from "@effect/vitest"
import { Cause, Deferred, Effect, Fiber, Logger, Schema } from "effect"
import * as Job from "../../../src/Job.ts"
import { JobFailed, type LeaseLost } from "../../../src/JobErrors.ts"
import { JobQueue } from "../../../src/JobQueue.ts"
import type { InvalidInput, RedisError } from "../../../src/RedisError.ts"
import {
  eventually,
  failingJob,
  listAll,
  type Part,
  stateOf,
  textJob,
  unique,
  untilLength,
  untilState,
  work
} from "./support.ts"

type Settled = Effect.Effect<void, LeaseLost | InvalidInput | RedisError>

export const outcomes: Part = (it, engine) => {
  /** How long a job waits after each of its failures, as an interval that the true delay is in. */
  const delaysOf = (job: Job.Job<string, string, void, string>, id: string, failures: number) =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const delays: Array<readonly [from: number, to: number]> = []
      for (let i = 0; i < failures; i++) {
        const [taken] = yield* queue.take(job, 1)
        assert.include(taken, { id, attempt: i + 1 })
        const before = yield* engine.now
        yield* taken!.fail("no")
        const after = yield* engine.now
        const info = yield* queue.get(job, id)
        assert.include(info, { state: "delayed", attempt: i + 1 })
        delays.push([info!.dueAt! - after, info!.dueAt! - before])
        yield* engine.elapse(info!.dueAt! - after)
      }
      return delays
    })

  const within = (delays: ReadonlyArray<readonly [number, number]>, expected: ReadonlyArray<number>) => {
    assert.lengthOf(delays, expected.length)
    delays.forEach(([from, to], i) => {
      assert.isAtMost(from, expected[i]!)
      assert.isAtLeast(to, expected[i]!)
    })
  }

  it.effect("yields the result of a job of the kind that is asked for, and of no other", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      const Other = textJob({ queue: Text.queue })
      const ids = [yield* queue.enqueue(Text, "x"), yield* queue.enqueue(Other, "y")] as const
      yield* work(engine, [Text.handler(Effect.succeed), Other.handler(Effect.succeed)])
      assert.strictEqual(yield* queue.result(Text, ids[0], { within: "1 minute" }), "x")
      assert.strictEqual(yield* queue.result(Other, ids[1], { within: "1 minute" }), "y")
      for (const [job, id] of [[Text, ids[1]], [Other, ids[0]]] as const) {
        const error = yield* Effect.flip(queue.result(job, id, { within: "1 minute" }))
        assert.deepInclude(error, { _tag: "InvalidInput", input: "job id" })
      }
    }))

  it.effect("tells of a handler that died, and of each dead letter, in the log", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob({ attempts: 1 })
      const told: Array<string> = []
      const logger = Logger.make(({ cause, logLevel, message }) => {
        told.push(`${logLevel}: ${String(message)} ${Cause.pretty(cause)}`)
      })
      yield* Effect.provide(
        Effect.gen(function*() {
          yield* work(engine, [Text.handler(() => Effect.die(new Error("a mistake")))])
          const id = yield* queue.enqueue(Text, "the payload")
          yield* untilState(Text, id, "failed")
          const ours = told.filter((line) => line.includes(id))
          assert.lengthOf(ours, 2)
          assert.match(ours[0]!, /^Error: The handler of job .* died .*a mistake/s)
          assert.match(ours[1]!, /^Warn: .* is a dead letter/)
          assert.notInclude(told.join(), "the payload")
        }),
        Logger.layer([logger])
      )
    }))

  it.effect("waits as long after each failure as a fixed backoff says", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Failing = failingJob({ attempts: 9, backoff: { kind: "fixed", delay: "10 seconds" } })
      const id = yield* queue.enqueue(Failing, "x")
      within(yield* delaysOf(Failing, id, 3), [10_000, 10_000, 10_000])
      const other = yield* queue.enqueue(Failing, "y", { priority: 0, backoff: { kind: "fixed", delay: "3 minutes" } })
      within(yield* delaysOf(Failing, other, 2), [180_000, 180_000])
    }))

  it.effect("waits longer after each failure as an exponential backoff says, up to its limit", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Failing = failingJob({
        attempts: 9,
        backoff: { kind: "exponential", delay: "1 second", factor: 3, max: "20 seconds" }
      })
      const id = yield* queue.enqueue(Failing, "x")
      within(yield* delaysOf(Failing, id, 5), [1000, 3000, 9000, 20_000, 20_000])
      const doubled = yield* queue.enqueue(Failing, "y", {
        priority: 0,
        backoff: { kind: "exponential", delay: "1 minute" }
      })
      within(yield* delaysOf(Failing, doubled, 7), [1, 2, 4, 8, 16, 32, 60].map((minutes) => minutes * 60_000))
    }))

  it.effect("spreads retries as far as the jitter says", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Failing = failingJob({ backoff: { kind: "exponential", delay: "100 seconds", jitter: 0.4 } })
      const Default = failingJob()
      const failAll = (job: typeof Failing) =>
        Effect.gen(function*() {
          yield* queue.enqueueAll(job, Array.from({ length: 30 }, () => "x"))
          const before = yield* engine.now
          for (const taken of yield* queue.take(job, 30)) yield* taken.fail("no")
          const took = (yield* engine.now) - before
          const delays = (yield* listAll(job, "delayed", 100)).map(({ dueAt }) => dueAt! - before)
          assert.lengthOf(delays, 30)
          assert.isAbove(new Set(delays).size, 10)
          return { took, least: Math.min(...delays), most: Math.max(...delays) }
        })
      const jittered = yield* failAll(Failing)
      assert.isAtLeast(jittered.least, 60_000)
      assert.isAtMost(jittered.most, 100_000 + jittered.took)
      const usual = yield* failAll(Default)
      assert.isAtLeast(usual.least, 500)
      assert.isAtMost(usual.most, 1000 + usual.took)
    }))

  it.effect("makes a job a dead letter when its attempts are used up", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Failing = failingJob({ attempts: 3, backoff: { kind: "fixed", delay: 0 } })
      const seen: Array<string> = []
      yield* work(engine, [
        Failing.handler((text, { attempt, attempts }) => {
          seen.push(`${text} ${attempt}/${attempts}`)
          return Effect.fail(`no ${attempt}`)
        })
      ])
      const id = yield* queue.enqueue(Failing, "x")
      assert.strictEqual(yield* Effect.flip(queue.result(Failing, id, { within: "1 minute" })), "no 3")
      assert.deepStrictEqual(seen, ["x 1/3", "x 2/3", "x 3/3"])
      const info = yield* queue.get(Failing, id)
      assert.deepInclude(info, {
        state: "failed",
        attempt: 3,
        payload: "x",
        failure: { reason: "error", detail: "no 3" }
      })
      assert.deepStrictEqual((yield* listAll(Failing, "failed", 10)).map((job) => job.id), [id])
      const once = yield* queue.enqueue(Failing, "y", { attempts: 1 })
      assert.strictEqual(yield* Effect.flip(queue.result(Failing, once, { within: "1 minute" })), "no 1")
    }))

  it.effect("counts a defect, and an attempt that interrupts itself, as failures", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob({ attempts: 1 })
      yield* work(engine, [
        Text.handler((text) => {
          if (text === "throws") throw new TypeError("at once")
          return text === "dies" ? Effect.die(new TypeError("later")) : Effect.interrupt
        })
      ])
      const detail = (text: string) =>
        Effect.gen(function*() {
          const id = yield* queue.enqueue(Text, text)
          const error = yield* Effect.flip(queue.result(Text, id, { within: "1 minute" }))
          assert.include(error, { _tag: "JobFailed", id, reason: "defect" })
          return error._tag === "JobFailed" ? error.detail : ""
        })
      assert.strictEqual(yield* detail("throws"), "TypeError: at once")
      assert.strictEqual(yield* detail("dies"), "TypeError: later")
      assert.strictEqual(yield* detail("interrupts"), "it interrupted itself")
    }))

  it.effect("interrupts an attempt that takes too long, and runs its finalizers", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Slow = textJob({ attempts: 2, timeout: "20 millis", backoff: { kind: "fixed", delay: 0 } })
      const seen: Array<string> = []
      yield* work(engine, [
        Slow.handler((text, { attempt }) =>
          Effect.gen(function*() {
            yield* Effect.addFinalizer(() => Effect.sync(() => seen.push(`closed ${text} ${attempt}`)))
            return yield* Effect.never
          })
        )
      ])
      const id = yield* queue.enqueue(Slow, "x")
      yield* untilState(Slow, id, "active")
      yield* engine.elapse("20 millis")
      yield* untilLength(seen, 1)
      yield* eventually("the second attempt", Effect.map(queue.get(Slow, id), (info) => info?.attempt === 2))
      yield* engine.elapse("20 millis")
      const error = yield* Effect.flip(queue.result(Slow, id, { within: "1 minute" }))
      assert.include(error, { _tag: "JobFailed", reason: "timeout", detail: "it took longer than 20 ms" })
      assert.deepStrictEqual(seen, ["closed x 1", "closed x 2"])
    }))

  it.effect("makes a job whose payload nobody can read a dead letter, and goes on", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const name = unique("versions")
      const Old = Job.make(name, { payload: Schema.String })
      const New = Job.make(name, { payload: Schema.Finite, success: Schema.Finite })
      yield* work(engine, [New.handler(Effect.succeed)])
      const old = yield* queue.enqueue(Old, "not a number")
      const error = yield* Effect.flip(queue.result(New, old, { within: "1 minute" }))
      assert.include(error, { _tag: "JobFailed", reason: "undecodable" })
      const info = yield* queue.get(New, old)
      assert.deepInclude(info, { state: "failed", payload: "not a number" })
      const id = yield* queue.enqueue(New, 5)
      assert.strictEqual(yield* queue.result(New, id, { within: "1 minute" }), 5)
    }))

  it.effect("survives schemas that throw, and results that do not fit theirs", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const throwing = Schema.String.check(Schema.makeFilter((text) => {
        if (text === "throw") throw new Error("a bug in a schema")
        return true
      }))
      const name = unique("throwing")
      const Plain = Job.make(name, { payload: Schema.String })
      const Throwing = Job.make(name, { payload: throwing, success: Schema.Any, error: throwing, attempts: 1 })
      yield* work(engine, [
        Throwing.handler((text) =>
          text === "bigint" ? Effect.succeed({ n: 1n }) : text === "fail" ? Effect.fail("throw") : Effect.succeed(text)
        )
      ])
      const outcome = (text: string) =>
        Effect.gen(function*() {
          const id = yield* queue.enqueue(Plain, text)
          return yield* Effect.result(queue.result(Throwing, id, { within: "1 minute" }))
        })
      assert.deepInclude(yield* outcome("throw"), { _tag: "Failure" })
      for (const text of ["throw", "bigint", "fail"]) {
        const { failure } = (yield* outcome(text)) as { readonly failure?: unknown }
        assert.instanceOf(failure, JobFailed)
        assert.include(failure, { reason: "undecodable" })
      }
      assert.deepInclude(yield* outcome("fine"), { _tag: "Success", success: "fine" })
      const refused = yield* Effect.flip(queue.enqueue(Throwing, "throw"))
      assert.strictEqual(refused._tag, "InvalidInput")
    }))

  it.effect("runs dead letters again, one or many, with all their attempts", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Failing = failingJob({ attempts: 2, backoff: { kind: "fixed", delay: 0 } })
      let fine = false
      const attempts: Array<number> = []
      yield* work(engine, [
        Failing.handler((_, { attempt }) => {
          attempts.push(attempt)
          return fine ? Effect.void : Effect.fail("not yet")
        })
      ])
      const [first, ...rest] = yield* queue.enqueueAll(Failing, Array.from({ length: 12 }, (_, i) => String(i)))
      yield* eventually("all are dead", Effect.map(queue.counts(Failing), ({ failed }) => failed === 12))
      attempts.length = 0
      assert.isTrue(yield* queue.retry(Failing, first!))
      yield* eventually("it died again", Effect.map(stateOf(Failing, first!), (state) => state === "failed"))
      yield* untilLength(attempts, 2)
      assert.deepStrictEqual(attempts, [1, 2])
      fine = true
      assert.isTrue(yield* queue.retry(Failing, first!))
      yield* queue.result(Failing, first!, { within: "1 minute" })
      assert.isFalse(yield* queue.retry(Failing, first!))
      assert.strictEqual(yield* queue.replay(Failing, { limit: 4 }), 4)
      yield* eventually("4 are done", Effect.map(queue.counts(Failing), ({ finished }) => finished === 5))
      assert.strictEqual(yield* queue.replay(Failing), 7)
      yield* Effect.forEach(rest, (id) => queue.result(Failing, id, { within: "1 minute" }))
      assert.include(yield* queue.counts(Failing), { failed: 0, finished: 12, waiting: 0, active: 0 })
      assert.strictEqual(yield* queue.replay(Failing), 0)
    }))

  it.effect("postpones a job without using an attempt", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob({ attempts: 1 })
      const seen: Array<number> = []
      yield* work(engine, [
        Text.handler((text, { attempt }) => {
          seen.push(attempt)
          return seen.length < 4 ? Job.postpone("10 minutes") : Effect.succeed(text)
        })
      ])
      const id = yield* queue.enqueue(Text, "x")
      for (let times = 1; times < 4; times++) {
        yield* untilLength(seen, times)
        yield* untilState(Text, id, "delayed")
        assert.include(yield* queue.get(Text, id), { attempt: 0, failure: undefined })
        yield* engine.elapse("10 minutes")
      }
      assert.strictEqual(yield* queue.result(Text, id, { within: "1 minute" }), "x")
      assert.deepStrictEqual(seen, [1, 1, 1, 1])
    }))

  it.effect("takes a delay that nobody can wait for as a mistake, and loses no job by it", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob({ attempts: 1 })
      const delays: ReadonlyArray<number> = [-1, NaN, Infinity, 1e300]
      yield* work(engine, [Text.handler((text) => Job.postpone(delays[Number(text)]!))])
      for (const i of delays.keys()) {
        const id = yield* queue.enqueue(Text, String(i))
        const error = yield* Effect.flip(queue.result(Text, id, { within: "1 minute" }))
        assert.include(error, { _tag: "JobFailed", reason: "defect" })
      }
      const Failing = failingJob({ backoff: { kind: "exponential", delay: 0, factor: 1e300, max: 4e15 } })
      const id = yield* queue.enqueue(Failing, "x")
      for (let attempt = 1; attempt < 5; attempt++) {
        const [job] = yield* queue.take(Failing, 1)
        assert.include(job, { id, attempt })
        yield* job!.fail("x")
      }
    }))

  it.effect("gives back a job that it has no handler for, without using an attempt", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Known = textJob()
      const Unknown = textJob({ queue: Known.queue, attempts: 1 })
      yield* work(engine, [Known.handler(Effect.succeed)])
      const id = yield* queue.enqueue(Unknown, "x")
      const known = yield* queue.enqueue(Known, "y")
      assert.strictEqual(yield* queue.result(Known, known, { within: "1 minute" }), "y")
      yield* untilState(Known, id, "delayed")
      assert.include(yield* queue.get(Known, id), { attempt: 0, name: Unknown.name })
      yield* engine.elapse("1 second")
      yield* eventually("it is passed on", Effect.map(stateOf(Known, id), (state) => state === "delayed"))
      yield* work(engine, [Known.handler(Effect.succeed), Unknown.handler((text) => Effect.succeed(`${text}!`))])
      // Whoever takes it: the worker that knows it gets it in the end.
      yield* eventually(
        "it is done",
        Effect.andThen(
          engine.elapse("1 second"),
          Effect.map(stateOf(Known, id), (state) => state === "completed")
        )
      )
      assert.strictEqual(yield* queue.result(Unknown, id, { within: "1 minute" }), "x!")
      assert.include(yield* queue.get(Known, id), { attempt: 1 })
    }))

  it.effect("waits for a result for so long, and not for one that cannot come", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      const unknown = yield* Effect.flip(queue.result(Text, "nobody", { within: "1 minute" }))
      assert.include(unknown, { _tag: "ResultExpired", id: "nobody" })
      const id = yield* queue.enqueue(Text, "x")
      const waiting = yield* Effect.forkChild(Effect.flip(queue.result(Text, id, { within: "30 millis" })))
      yield* engine.elapse("30 millis")
      assert.include(yield* Fiber.join(waiting), { _tag: "ResultTimeout", id })
      const later = yield* Effect.forkChild(Effect.flip(queue.result(Text, id, { within: "1 hour" })))
      yield* engine.elapse("1 minute")
      assert.isTrue(yield* queue.remove(Text, id))
      assert.include(yield* Fiber.join(later), { _tag: "ResultExpired", id })
    }))

  it.effect("gives a result to all who wait, and to whoever asks again after being interrupted", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = textJob()
      const latch = yield* Deferred.make<void>()
      yield* work(engine, [Text.handler((text) => Effect.as(Deferred.await(latch), text))])
      const id = yield* queue.enqueue(Text, "x")
      yield* untilState(Text, id, "active")
      const result = queue.result(Text, id, { within: "1 hour" })
      const many = yield* Effect.forkChild(Effect.all(Array.from({ length: 20 }, () => result), { concurrency: 20 }))
      const one = yield* Effect.forkChild(result)
      yield* engine.elapse(1)
      yield* Fiber.interrupt(one)
      const again = yield* Effect.forkChild(result)
      yield* engine.elapse(1)
      yield* Deferred.succeed(latch, undefined)
      assert.deepStrictEqual(yield* Fiber.join(many), Array.from({ length: 20 }, () => "x"))
      assert.strictEqual(yield* Fiber.join(again), "x")
      assert.strictEqual(yield* result, "x")
    }))

  it.effect("settles a job once, however often its holder says so", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const Text = Job.make(unique("once"), { payload: Schema.String, success: Schema.String, error: Schema.String })
      yield* queue.enqueueAll(Text, ["a", "b", "c"])
      const jobs = yield* queue.take(Text, 3)
      const waysToEnd: ReadonlyArray<(job: typeof jobs[number]) => Settled> = [
        (job) => job.complete("done"),
        (job) => job.fail("failed"),
        (job) => job.release()
      ]
      for (const [i, job] of jobs.entries()) {
        yield* waysToEnd[i]!(job)
        for (const end of waysToEnd) {
          assert.include(yield* Effect.flip(end(job)), { _tag: "LeaseLost", id: job.id })
        }
      }
      const states = yield* Effect.forEach(jobs, ({ id }) => stateOf(Text, id))
      assert.deepStrictEqual(states, ["completed", "delayed", "waiting"])
    }))
}
