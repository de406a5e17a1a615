/** What is said to resting workers is lost: jobs start all the same, also those that were sent along and are leased. */
import { assert, describe, it, vi } from "@effect/vitest"
import { Effect, Schema } from "effect"
import * as Job from "../../src/Job.ts"
import { eventually, wait } from "../support/queuesOnRedis.ts"
import { request } from "../support/resp.ts"
import { sharedRedisUrl, uniqueNamespace } from "../support/sharedRedis.ts"
import { type TwoSides, twoSides } from "../support/twoSides.ts"

const Text = Job.make("text", { payload: Schema.String, success: Schema.String })

// Far longer than a test takes: whoever waits for it to pass is too late.
const lease = "1 minute"

/** What the client calls its connection for subscriptions. */
const subscriptions = ":subscriptions"

/** A worker on the near side that has rested once, and can be woken up. */
const resting = ({ far, near }: TwoSides, poll: number | "1 hour", started: Array<string>) =>
  Effect.gen(function*() {
    yield* near.work([
      Text.handler((text, { attempt }) => Effect.sync(() => (started.push(`${text} ${attempt}`), text)))
    ], { lease, poll })
    const first = yield* far.queue.enqueue(Text, "first")
    yield* far.queue.result(Text, first, { within: "5 seconds" })
  })

describe("A wake-up that is lost", () => {
  it.live("delays a job by no more than the poll interval, however often, and does not count as a crash", () =>
    Effect.gen(function*() {
      const sides = yield* twoSides({ maxCrashes: 1 })
      const { far, proxy } = sides
      const started: Array<string> = []
      yield* resting(sides, 30, started)
      yield* proxy.swallow("replies", subscriptions)
      for (const text of ["a", "b", "c", "d"]) {
        const id = yield* far.queue.enqueue(Text, text)
        assert.strictEqual(yield* far.queue.result(Text, id, { within: "5 seconds" }), text)
      }
      assert.deepStrictEqual(started, ["first 1", "a 1", "b 1", "c 1", "d 1"])
      assert.include(yield* far.queue.counts(Text), { waiting: 0, active: 0, failed: 0, finished: 5 })
    }).pipe(Effect.scoped))

  it.live("delays jobs until the subscription is back, when it was cut just then", () =>
    Effect.gen(function*() {
      const sides = yield* twoSides({ maxCrashes: 1 })
      const { far, proxy } = sides
      const started: Array<string> = []
      yield* resting(sides, "1 hour", started)
      for (const texts of [["a"], ["b", "c", "d"]]) {
        yield* proxy.swallow("replies", subscriptions)
        const ids = yield* far.queue.enqueueAll(Text, texts)
        // Until the proxy has seen what is to be lost.
        yield* wait(20)
        yield* proxy.restore
        for (const id of ids) yield* far.queue.result(Text, id, { within: "5 seconds" })
      }
      assert.deepStrictEqual(started, ["first 1", "a 1", "b 1", "c 1", "d 1"])
    }).pipe(Effect.scoped))

  it.live("leaves the job to others when its worker has been killed", () =>
    Effect.gen(function*() {
      const sides = yield* twoSides()
      const { clock, far, proxy } = sides
      yield* resting(sides, "1 hour", [])
      // It is gone, and nobody knows yet.
      yield* proxy.swallow("both")
      const id = yield* far.queue.enqueue(Text, "x")
      const attempts: Array<number> = []
      yield* far.work([Text.handler((text, { attempt }) => Effect.sync(() => (attempts.push(attempt), text)))], {
        poll: 20
      })
      clock.offsetMillis += 60_000
      assert.strictEqual(yield* far.queue.result(Text, id, { within: "5 seconds" }), "x")
      assert.deepStrictEqual(attempts, [1])
    }).pipe(Effect.scoped))
})

describe("A job that is due later", () => {
  it.live("starts then, time and again, though nobody is told of it", () =>
    Effect.gen(function*() {
      const { far } = yield* twoSides()
      const Stubborn = Job.make("stubborn", {
        payload: Schema.Void,
        success: Schema.Finite,
        error: Schema.Void,
        attempts: 30,
        backoff: { kind: "fixed", delay: 5 }
      })
      yield* far.work([
        Stubborn.handler((_, { attempt }) => attempt < 30 ? Effect.fail(undefined) : Effect.succeed(attempt))
      ], { poll: "1 hour" })
      const id = yield* far.queue.enqueue(Stubborn, undefined)
      assert.strictEqual(yield* far.queue.result(Stubborn, id, { within: "5 seconds" }), 30)
    }).pipe(Effect.scoped))
})

describe("A subscription that is dead but not closed", () => {
  it.live("is found out by asking, and replaced; then workers are woken up again", () =>
    Effect.gen(function*() {
      // The time between two questions is not waited for. It begins with the first subscription, after this.
      vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] })
      yield* Effect.addFinalizer(() => Effect.sync(() => vi.useRealTimers()))
      const namespace = uniqueNamespace()
      const sides = yield* twoSides({ namespace, commandTimeout: 150 })
      const { far, proxy } = sides
      const started: Array<string> = []
      yield* resting(sides, "1 hour", started)
      const port = Number(new URL(sharedRedisUrl()).port)
      const channels = Effect.promise(() => request(port, [["PUBSUB", "CHANNELS", `${namespace}:*`]]))
      yield* eventually("it is subscribed", Effect.map(channels, (names) => Array.isArray(names) && names.length > 0))
      const accepted = proxy.accepted
      yield* proxy.swallow("both", subscriptions)
      const lost = yield* far.queue.enqueue(Text, "lost")
      vi.advanceTimersByTime(60_000)
      yield* eventually("it is replaced", Effect.sync(() => proxy.accepted > accepted))
      yield* proxy.restore
      assert.strictEqual(yield* far.queue.result(Text, lost, { within: "5 seconds" }), "lost")
      const next = yield* far.queue.enqueue(Text, "next")
      assert.strictEqual(yield* far.queue.result(Text, next, { within: "5 seconds" }), "next")
      assert.deepStrictEqual(started, ["first 1", "lost 1", "next 1"])
    }).pipe(Effect.scoped))
})
