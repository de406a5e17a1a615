/** Jobs are claimed, and whoever claimed them does not hear of it: they start all the same, as if nothing had been. */
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer, Schema, type Scope } from "effect"
import { makeRedisEngine } from "../../src/internal/queueRedis.ts"
import { defaults } from "../../src/internal/queueSettings.ts"
import * as Job from "../../src/Job.ts"
import type { JobQueueOptions } from "../../src/JobQueue.ts"
import { RedisClient } from "../../src/RedisClient.ts"
import { eventually, wait } from "../support/queuesOnRedis.ts"
import { sharedRedisUrl, uniqueNamespace } from "../support/sharedRedis.ts"
import { type TwoSides, twoSides } from "../support/twoSides.ts"

// Far longer than a test takes: whoever waits for it to pass is too late.
const lease = "1 minute"

const Text = Job.make("text", { payload: Schema.String, success: Schema.String })
const texts = ["a", "b", "c", "d", "e"]

const between = <A, E>(
  test: (sides: TwoSides) => Effect.Effect<A, E, Scope.Scope>,
  options?: JobQueueOptions
) => Effect.scoped(Effect.flatMap(twoSides(options), test))

/** Notes each start as payload and attempt. */
const noting = (started: Array<string>) =>
  Text.handler((text, { attempt }) => Effect.sync(() => (started.push(`${text} ${attempt}`), text)))

const allAreDone = ({ far }: TwoSides, count: number) =>
  Effect.gen(function*() {
    yield* eventually("all are done", Effect.map(far.queue.counts(Text), ({ finished }) => finished === count))
    assert.include(yield* far.queue.counts(Text), { waiting: 0, delayed: 0, active: 0, failed: 0 })
  })

const areClaimed = ({ far }: TwoSides, count: number) =>
  eventually("they are claimed", Effect.map(far.queue.counts(Text), ({ active }) => active === count))

describe("A claim whose reply is lost", () => {
  it.live("brings its jobs as soon as the worker is back, and does not count as a crash", () =>
    between((sides) =>
      Effect.gen(function*() {
        const { far, near, proxy, unheard } = sides
        yield* far.queue.enqueueAll(Text, texts)
        const started: Array<string> = []
        yield* proxy.refuse
        yield* unheard(near.work([noting(started)], { lease }))
        yield* areClaimed(sides, 5)
        assert.deepStrictEqual(started, [])
        yield* proxy.accept
        yield* allAreDone(sides, 5)
        assert.sameMembers(started, texts.map((text) => `${text} 1`))
      }), { maxCrashes: 1 }))

  it.live("takes the room of what is asked for with it", () =>
    Effect.scoped(Effect.gen(function*() {
      const client = yield* Layer.build(RedisClient.layer({ url: sharedRedisUrl(), namespace: uniqueNamespace() }))
      const engine = yield* makeRedisEngine(Context.get(client, RedisClient), defaults)
      const store = engine.open({ queue: "text", shared: false })
      const record = {
        priority: 5,
        lifo: false,
        enqueuedAt: 0,
        tenant: undefined,
        name: "text",
        meta: {},
        payload: "1"
      }
      yield* store.enqueue(["a", "b", "c"].map((id) => ({ id, idIsNew: true, record, due: undefined })))
      const step = (number: number, want: number, ahead: number, unheard: ReadonlyArray<string>) =>
        Effect.map(
          store.step({
            owner: "inbox 1 1000",
            number,
            unheard,
            reports: [],
            extend: [],
            want,
            ahead,
            takesLastChance: true,
            leaseMillis: 10_000,
            sleepMillis: 1000
          }),
          ({ claims, willCall }) => ({ ids: claims.map(({ id }) => id), willCall })
        )
      yield* step(1, 1, 0, [])
      assert.deepStrictEqual(yield* step(2, 1, 0, ["1"]), { ids: ["a"], willCall: false })
      assert.deepStrictEqual(yield* step(3, 1, 1, ["1"]), { ids: ["a", "b"], willCall: false })
      assert.deepStrictEqual(yield* step(4, 4, 0, ["1", "3"]), { ids: ["a", "b", "c"], willCall: true })
    })))

  it.live("may be lost three times in a row", () =>
    between((sides) =>
      Effect.gen(function*() {
        const { far, near, proxy, unheard } = sides
        yield* far.queue.enqueueAll(Text, texts)
        const started: Array<string> = []
        yield* unheard(near.work([noting(started)], { lease }))
        for (let i = 0; i < 3; i++) {
          assert.deepStrictEqual(started, [])
          yield* unheard(Effect.void)
        }
        assert.strictEqual(proxy.severed, 4)
        yield* allAreDone(sides, 5)
        assert.sameMembers(started, texts.map((text) => `${text} 1`))
      })
    ))

  it.live("brings its jobs to whoever takes by hand, or leaves them to the next one", () =>
    between((sides) =>
      Effect.gen(function*() {
        const { far, near, unheard } = sides
        yield* far.queue.enqueueAll(Text, texts)
        const taken = yield* Effect.scoped(Effect.gen(function*() {
          const result = yield* unheard(near.queue.take(Text, 5, { lease }))
          if (result._tag === "Success") return result.success.map(({ attempt, payload }) => `${payload} ${attempt}`)
          assert.include(result.failure, { _tag: "RedisError", outcome: "Unknown" })
          return []
        }))
        // It has given back what it had, or never knew it had.
        assert.isTrue(taken.length === 0 || taken.length === 5)
        const started: Array<string> = []
        yield* far.work([noting(started)], { lease })
        yield* allAreDone(sides, 5)
        assert.sameMembers(started, texts.map((text) => `${text} 1`))
      }), { maxCrashes: 1 }))

  it.live("loses none of the reports that went with it, and does none of the jobs twice", () =>
    between((sides) =>
      Effect.gen(function*() {
        const { far, near, unheard } = sides
        const payloads = Array.from({ length: 200 }, (_, i) => String(i))
        const ids = yield* far.queue.enqueueAll(Text, payloads)
        const started: Array<string> = []
        yield* near.work([
          Text.handler((text, { attempt }) =>
            Effect.as(Effect.andThen(Effect.sync(() => started.push(`${text} ${attempt}`)), wait(1)), text)
          )
        ], { lease, concurrency: 4 })
        for (let i = 0; i < 3; i++) {
          yield* unheard(Effect.void)
          yield* wait(10)
        }
        yield* allAreDone(sides, 200)
        assert.deepStrictEqual(started.toSorted(), payloads.map((text) => `${text} 1`).toSorted())
        const results = yield* Effect.forEach(ids, (id) => far.queue.result(Text, id, { within: "1 second" }), {
          concurrency: 50
        })
        assert.deepStrictEqual(results, payloads)
      }), { maxCrashes: 1 }))
})
