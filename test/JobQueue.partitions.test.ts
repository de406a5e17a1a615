/** Partitioned queues on Redis: which keys they have, what a change of their number does, how much a worker claims. */
import { assert, describe, it } from "@effect/vitest"
import { Context, Deferred, Effect, Layer, Schema } from "effect"
import { TestClock } from "effect/testing"
import { slotOf } from "../src/internal/hashSlot.ts"
import { startLoop } from "../src/internal/jobLoop.ts"
import { keyBase } from "../src/internal/keys.ts"
import { partitionBase } from "../src/internal/partitionKeys.ts"
import type { Probe } from "../src/internal/probes.ts"
import type { QueueEngine, QueueStore } from "../src/internal/queueEngine.ts"
import { makeMemoryEngine } from "../src/internal/queueMemory.ts"
import { defaults } from "../src/internal/queueSettings.ts"
import * as Job from "../src/Job.ts"
import { JobQueue } from "../src/JobQueue.ts"
import { JobWorker } from "../src/JobWorker.ts"
import { RedisClient } from "../src/RedisClient.ts"
import { RedisError } from "../src/RedisError.ts"
import { eventually, queuesOnRedis } from "./support/queuesOnRedis.ts"
import { uniqueNamespace } from "./support/sharedRedis.ts"

const spread = (partitions: number) =>
  Job.make("spread", { payload: Schema.String, success: Schema.String, queue: "hot", partitions })

const keys = Array.from({ length: 40 }, (_, i) => `key ${i}`)

/** A program of its own on `namespace`, until the scope closes. */
const program = (namespace: string) =>
  Effect.map(Layer.build(queuesOnRedis({ namespace })), (built) => ({
    queue: Context.get(built, JobQueue),
    client: Context.get(built, RedisClient),
    work: (handler: Job.JobHandler<never>, concurrency: number) =>
      Effect.asVoid(Effect.provideContext(Layer.build(JobWorker.layer([handler], { concurrency })), built))
  }))

const tagOf = (key: string) => /\{([^}]*)\}/.exec(key)![1]!

describe("The keys of a partition", () => {
  it("are those of a queue without partitions for the first, and no other queue's for the others", () => {
    for (const name of ["hot", "a@1.0", "}", "a b", "é"]) {
      const bases = Array.from({ length: 64 }, (_, i) => partitionBase("ns", name, i))
      assert.strictEqual(bases[0], keyBase("ns", "queue", name))
      assert.strictEqual(new Set(bases).size, 64)
      for (const base of bases) assert.match(base, /^ns:queue:\{[^{}]+\}$/)
      for (const base of bases) assert.notInclude(bases.slice(1), keyBase("ns", "queue", tagOf(base)))
    }
  })

  it("are spread evenly over masters, which hold a range of slots each", () => {
    for (const [masters, partitions] of [[2, 4], [3, 8], [3, 16], [4, 16], [6, 32]] as const) {
      for (const name of keys) {
        const load = Array.from({ length: masters }, () => 0)
        for (let i = 0; i < partitions; i++) {
          load[Math.floor(slotOf(tagOf(partitionBase("ns", name, i))) * masters / 16_384)]!++
        }
        const fair = partitions / masters
        assert.isAtMost(Math.max(...load), Math.ceil(fair) + 1, `${name} on ${masters}`)
        assert.isAtLeast(Math.min(...load), Math.floor(fair) - 1, `${name} on ${masters}`)
      }
    }
  })

  it.live("are all that any call for it touches", () =>
    Effect.gen(function*() {
      const namespace = uniqueNamespace()
      const { client, queue, work } = yield* program(namespace)
      const Spread = spread(4)
      const ids = [
        ...yield* Effect.forEach(keys, (key) => queue.enqueue(Spread, key, { key })),
        ...yield* queue.enqueueAll(Spread, ["a", "b"])
      ]
      yield* work(Spread.handler(Effect.succeed), 4)
      yield* eventually("all are done", Effect.map(queue.counts(Spread), ({ finished }) => finished === ids.length))
      const used = yield* client.use("keys", (redis) => redis.keys(`${namespace}:queue:*`))
      const bases = Array.from({ length: 4 }, (_, i) => partitionBase(namespace, "hot", i))
      assert.sameMembers([...new Set(used.map((key) => key.slice(0, key.indexOf("}") + 1)))], bases)
      const outcomes = yield* Effect.forEach(
        bases,
        (base) => client.use("hlen", (redis) => redis.hlen(`${base}:outcomes`))
      )
      assert.isTrue(outcomes.every((count) => count > 0))
      // Where an id says that it is, it is.
      for (const id of ids) {
        const base = bases[Number(id.split(".")[1])]!
        assert.strictEqual(yield* client.use("hexists", (redis) => redis.hexists(`${base}:outcomes`, id)), 1)
      }
    }))
})

describe("A queue that gets more partitions", () => {
  it.live("loses no job, and finds those from before by their ids", () =>
    Effect.gen(function*() {
      const namespace = uniqueNamespace()
      const ids: Array<string> = []
      for (const partitions of [1, 2, 8]) {
        const { queue } = yield* program(namespace)
        for (const key of keys) {
          ids.push(yield* queue.enqueue(spread(partitions), key, { key }))
          ids.push(yield* queue.enqueue(spread(partitions), key, { id: `${key} of ${partitions}` }))
        }
        ids.push(...yield* queue.enqueueAll(spread(partitions), keys))
      }
      const { queue, work } = yield* program(namespace)
      const Spread = spread(8)
      assert.include(yield* queue.counts(Spread), { waiting: ids.length })
      for (const id of ids) assert.strictEqual((yield* queue.get(Spread, id))?.state, "waiting")
      yield* work(Spread.handler((text) => Effect.succeed(`${text}!`)), 20)
      const results = yield* Effect.forEach(ids, (id) => queue.result(Spread, id, { within: "10 seconds" }), {
        concurrency: 20
      })
      assert.isTrue(results.every((result) => /^key \d+!$/.test(result)))
    }))

  it.live("shows to whoever has the earlier number what is in those partitions", () =>
    Effect.gen(function*() {
      const namespace = uniqueNamespace()
      const now = yield* program(namespace)
      for (const key of keys) yield* now.queue.enqueue(spread(8), key, { key })
      const before = yield* program(namespace)
      const { waiting } = yield* before.queue.counts(spread(4))
      assert.isAbove(waiting, 0)
      assert.isBelow(waiting, keys.length)
      yield* before.work(spread(4).handler(Effect.succeed), 1)
      const others = keys.length - waiting
      yield* eventually("its part is done", Effect.map(now.queue.counts(spread(8)), (all) => all.finished === waiting))
      assert.include(yield* now.queue.counts(spread(8)), { waiting: others, active: 0 })
    }))
})

describe("A worker of several partitions", () => {
  const error = new RedisError({ command: "step", reason: "connection", outcome: "NotSent", detail: "away" })
  const enqueue = (store: QueueStore, id: string) =>
    store.enqueue([{
      id,
      idIsNew: false,
      due: undefined,
      record: {
        priority: 5,
        lifo: false,
        enqueuedAt: 0,
        tenant: undefined,
        name: "spread",
        meta: {},
        payload: `"${id}"`
      }
    }])
  /** A worker of three partitions, of which the one in the middle cannot be reached while it is away. */
  const workNearAndFar = Effect.gen(function*() {
    const seen: Array<string> = []
    const probes: Array<Probe> = []
    const state = { away: true }
    const memory = makeMemoryEngine(defaults)
    const engine: QueueEngine = {
      ...memory,
      isRemote: true,
      registerProbe: (probe) => Effect.sync(() => void probes.push(probe))
    }
    const partitions = [0, 1, 2].map((partition) => memory.open({ queue: "hot", shared: false, partition }))
    const reached = partitions.map((store, i): QueueStore => ({
      ...store,
      step: (request) => i === 1 && state.away ? Effect.fail(error) : store.step(request)
    }))
    const handler = spread(3).handler((text) => Effect.sync(() => (seen.push(text), text)))
    yield* startLoop(engine, { name: "hot", partitions: reached }, new Map([["spread", handler]]), {
      concurrency: 1,
      prefetch: 0,
      leaseMillis: 10_000,
      pollMillis: 10,
      shutdownMillis: 0
    })
    return { state, seen, probes, partitions }
  })

  it.live("works off those that it reaches while it cannot reach another one, and that one afterwards", () =>
    Effect.gen(function*() {
      const { partitions, seen, state } = yield* workNearAndFar
      yield* enqueue(partitions[1]!, "late")
      for (let i = 0; i < 20; i++) {
        yield* enqueue(partitions[i % 2 * 2]!, `job ${i}`)
        yield* eventually(`job ${i} has run`, Effect.sync(() => seen.at(-1) === `job ${i}`))
      }
      state.away = false
      yield* eventually("the other one has run", Effect.sync(() => seen.at(-1) === "late"))
    }))

  it.effect("tells Health of all of them together, and of one that it has not reached for long", () =>
    Effect.gen(function*() {
      const { partitions, probes, state } = yield* workNearAndFar
      yield* Effect.forEach(partitions, (store) => store.setPaused(true))
      for (const [i, store] of partitions.entries()) for (let n = 0; n <= i; n++) yield* enqueue(store, `${n}`)
      assert.lengthOf(probes, 1)
      yield* TestClock.adjust("9 seconds")
      assert.deepInclude(yield* probes[0]!.check, { status: "healthy" })
      yield* TestClock.adjust("2 seconds")
      const { details, status } = yield* probes[0]!.check
      assert.strictEqual(status, "unhealthy")
      assert.include(details, { waiting: 6, active: 0, paused: true })
      state.away = false
      yield* TestClock.adjust("3 seconds")
      assert.deepInclude(yield* probes[0]!.check, { status: "healthy", reasons: [] })
    }))

  it.live("holds no more jobs than it runs when they are slow, however many it is handed", () =>
    Effect.gen(function*() {
      const { queue, work } = yield* program(uniqueNamespace())
      const Spread = spread(8)
      const latch = yield* Deferred.make<void>()
      yield* work(Spread.handler((text) => Effect.as(Deferred.await(latch), text)), 2)
      for (const key of keys) yield* queue.enqueue(Spread, key, { key })
      yield* eventually(
        "it holds two",
        Effect.map(queue.counts(Spread), ({ active, waiting }) => active === 2 && waiting === keys.length - 2)
      )
      yield* Deferred.succeed(latch, undefined)
      yield* eventually("all are done", Effect.map(queue.counts(Spread), ({ finished }) => finished === keys.length))
    }))
})
