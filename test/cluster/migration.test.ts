/** Services go on while the slots they use move to another server. */
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Fiber, Layer, Schema, Stream } from "effect"
import { DistributedLock } from "../../src/DistributedLock.ts"
import * as Job from "../../src/Job.ts"
import { JobQueue } from "../../src/JobQueue.ts"
import { JobWorker } from "../../src/JobWorker.ts"
import * as RateLimit from "../../src/RateLimit.ts"
import { RateLimiter } from "../../src/RateLimiter.ts"
import { RedisClient } from "../../src/RedisClient.ts"
import { elapseLive } from "../support/elapse.ts"
import { incrementWhile } from "../support/incrementers.ts"
import { eventually } from "../support/queuesOnRedis.ts"
import { RedisCluster } from "../support/redisCluster.ts"
import { anotherMaster, connectTo, settingsOf, suiteCluster } from "../support/suiteCluster.ts"

const cluster = suiteCluster({ masters: 3, replicas: 0 })

/** All services that a test needs, in a namespace of their own. */
const services = (all = cluster()) =>
  Effect.suspend(() => {
    const client = RedisClient.layer(settingsOf(all))
    const layers = Layer.mergeAll(JobQueue.layer(), DistributedLock.layer(), RateLimiter.layer())
    return Layer.build(Layer.orDie(Layer.provideMerge(layers, client)))
  })

/** The slots of all keys in a namespace, by what only one master knows at a time. */
const slotsOf = (namespace: string, all = cluster()) =>
  Effect.gen(function*() {
    const slots = new Set<number>()
    for (const master of yield* all.masters) {
      const keys = (yield* master.cli("KEYS", `${namespace}*`)) as ReadonlyArray<string>
      for (const key of keys) slots.add(all.slotOf(key))
    }
    return [...slots]
  })

/** Moves a slot, a few keys at a time. */
const moveSlowly = (slot: number, all = cluster()) =>
  Effect.flatMap(anotherMaster(all, slot), (to) =>
    Effect.as(
      all.migrate(slot, to, {
        chunk: 1,
        beforeKeys: elapseLive("30 millis"),
        betweenKeys: elapseLive("30 millis")
      }),
      to
    ))

describe("A slot that moves under load", () => {
  it.live("loses no call and runs none twice, and nobody is left in doubt", () =>
    Effect.gen(function*() {
      const client = yield* connectTo(cluster())
      const keys = Array.from({ length: 12 }, (_, i) => `{loaded}${i}`)
      const to = yield* anotherMaster(cluster(), "{loaded}")
      const { acknowledged, failures } = yield* incrementWhile(
        client,
        keys,
        50,
        Effect.gen(function*() {
          yield* elapseLive("50 millis")
          yield* cluster().migrate("{loaded}", to, { chunk: 1, betweenKeys: elapseLive("20 millis") })
          yield* elapseLive("100 millis")
        })
      )
      assert.deepStrictEqual(failures, [])
      assert.isAbove(acknowledged, 500)
      assert.strictEqual(yield* cluster().masterOf("{loaded}"), to)
      const values = yield* client.use("mget", (redis) => redis.mget(...keys))
      assert.strictEqual(values.reduce((sum, value) => sum + Number(value), 0), acknowledged)
    }))

  it.live("does so for transactions too, each of which runs as one", () =>
    Effect.gen(function*() {
      const client = yield* connectTo(cluster())
      const [a, b] = ["{pairs}a", "{pairs}b"]
      const end = { reached: false }
      let pairs = 0
      const callers = yield* Effect.forkChild(Effect.forEach(Array.from({ length: 10 }), () =>
        Effect.gen(function*() {
          while (!end.reached) {
            const [x, y] = yield* client.multi((all) => all.incr(a).incr(b))
            assert.strictEqual(x, y)
            pairs++
          }
        }), { concurrency: "unbounded" }))
      yield* elapseLive("30 millis")
      yield* cluster().migrate("{pairs}", yield* anotherMaster(cluster(), "{pairs}"), {
        chunk: 1,
        betweenKeys: elapseLive("30 millis")
      })
      yield* elapseLive("50 millis")
      end.reached = true
      yield* Fiber.join(callers)
      assert.deepStrictEqual(yield* client.use("mget", (redis) => redis.mget(a, b)), [String(pairs), String(pairs)])
    }))
})

describe("A queue whose slot moves", () => {
  it.live("has all its jobs done, each once, while more are enqueued", () =>
    Effect.gen(function*() {
      const context = yield* services()
      const queue = Context.get(context, JobQueue)
      const { namespace } = Context.get(context, RedisClient)
      const Work = Job.make("work", { payload: Schema.Finite })
      const runs: Array<number> = []
      const count = 600
      yield* queue.enqueueAll(Work, Array.from({ length: count / 2 }, (_, i) => i))
      const [slot = -1, ...others] = yield* slotsOf(namespace)
      assert.lengthOf(others, 0)
      yield* Effect.provide(
        Layer.build(
          JobWorker.layer([
            Work.handler((payload) => Effect.andThen(elapseLive("2 millis"), Effect.sync(() => runs.push(payload))))
          ], { concurrency: 4, poll: "20 millis" })
        ),
        context
      )
      const more = yield* Effect.forkChild(
        Effect.forEach(Array.from({ length: count / 2 }, (_, i) => count / 2 + i), (i) => queue.enqueue(Work, i), {
          concurrency: 5
        })
      )
      yield* moveSlowly(slot)
      yield* Fiber.join(more)
      yield* Effect.repeat(Effect.delay(Effect.sync(() => runs.length), "5 millis"), { until: (done) => done >= count })
      yield* elapseLive("50 millis")
      assert.deepStrictEqual(runs.toSorted((a, b) => a - b), Array.from({ length: count }, (_, i) => i))
    }))
})

describe("Those who follow a queue whose slot moves", () => {
  it.live("are told of all that happens, once, also at the new server and when it gives way to a replica", () =>
    Effect.gen(function*() {
      const all = yield* RedisCluster.start()
      const context = yield* services(all)
      const queue = Context.get(context, JobQueue)
      const Work = Job.make("followed", { payload: Schema.Finite })
      const told: Array<string> = []
      const events = yield* queue.eventsScoped(Work)
      yield* Effect.forkScoped(Stream.runForEach(events, (event) => Effect.sync(() => told.push(event.id))))
      const enqueue = (id: string) => queue.enqueue(Work, 0, { id })
      const isTold = (id: string) => eventually(`${id} is told`, Effect.sync(() => told.includes(id)))
      yield* enqueue("before")
      yield* isTold("before")
      const [slot = -1] = yield* slotsOf(Context.get(context, RedisClient).namespace, all)
      const onTheWay = yield* Effect.forkChild(
        Effect.andThen(elapseLive("60 millis"), enqueue("on the way"))
      )
      const to = yield* moveSlowly(slot, all)
      yield* Fiber.join(onTheWay)
      yield* enqueue("at the new one")
      yield* isTold("at the new one")
      yield* all.failover(to)
      yield* enqueue("at its successor")
      yield* isTold("at its successor")
      assert.deepStrictEqual(told, ["before", "on the way", "at the new one", "at its successor"])
    }))
})

describe("A lock whose slot moves", () => {
  it.live("stays held, and those who wait get it one after the other", () =>
    Effect.gen(function*() {
      const context = yield* services()
      const lock = Context.get(context, DistributedLock)
      const { namespace } = Context.get(context, RedisClient)
      let inside = 0
      let most = 0
      const hold = lock.withLock("moving", { ttl: "3 seconds", wait: "10 seconds" })(
        Effect.gen(function*() {
          most = Math.max(most, ++inside)
          yield* elapseLive("60 millis")
          inside--
          return 1
        })
      )
      const holders = yield* Effect.forkChild(
        Effect.all(Array.from({ length: 8 }, () => hold), { concurrency: "unbounded" })
      )
      yield* elapseLive("30 millis")
      const [slot = -1, ...others] = yield* slotsOf(namespace)
      assert.lengthOf(others, 0)
      yield* moveSlowly(slot)
      assert.lengthOf(yield* Fiber.join(holders), 8)
      assert.strictEqual(most, 1)
    }))
})

describe("A rate limit whose slot moves", () => {
  it.live("allows as much as it would have", () =>
    Effect.gen(function*() {
      const context = yield* services()
      const limiter = Context.get(context, RateLimiter)
      const { namespace } = Context.get(context, RedisClient)
      const limit = RateLimit.fixedWindow({ name: "moving", limit: 40, window: "1 hour" })
      const check = Effect.map(limiter.check(limit, "someone"), ({ allowed }) => allowed)
      let allowed = yield* Effect.map(check, Number)
      const [slot = -1] = yield* slotsOf(namespace)
      const move = yield* Effect.forkChild(moveSlowly(slot))
      for (let i = 0; i < 60; i++) {
        allowed += Number(yield* check)
        yield* elapseLive("2 millis")
      }
      yield* Fiber.join(move)
      assert.strictEqual(allowed, 40)
      assert.isFalse(yield* check)
    }))
})
