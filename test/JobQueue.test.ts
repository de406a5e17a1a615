/** JobQueue: its contract on both engines, that the engines agree, and a program under a test's clock. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Context, Deferred, Duration, Effect, Fiber, Layer, Schema } from "effect"
import { TestClock } from "effect/testing"
import { setTimeout as sleep } from "node:timers/promises"
import { makeHolder } from "../src/internal/jobHolder.ts"
import { makeLane } from "../src/internal/jobLane.ts"
import type { QueueStore, StepReply } from "../src/internal/queueEngine.ts"
import { makeMemoryEngine } from "../src/internal/queueMemory.ts"
import { makeRedisEngine } from "../src/internal/queueRedis.ts"
import { ServerClock } from "../src/internal/serverClock.ts"
import * as Job from "../src/Job.ts"
import { JobQueue, type JobQueueOptions } from "../src/JobQueue.ts"
import { JobWorker } from "../src/JobWorker.ts"
import { RedisClient } from "../src/RedisClient.ts"
import { ServicesMemory } from "../src/Services.ts"
import { jobQueue } from "./contract/jobQueue.ts"
import { agree, settings } from "./contract/jobQueue/agreement.ts"
import { sharedRedisUrl, uniqueNamespace } from "./support/sharedRedis.ts"

const serverClock = { offsetMillis: 0 }

const onRedis = (options: JobQueueOptions) =>
  Layer.suspend(() =>
    JobQueue.layer(options).pipe(
      Layer.provide(RedisClient.layer({ url: sharedRedisUrl(), namespace: uniqueNamespace() })),
      Layer.provide(Layer.succeed(ServerClock, serverClock))
    )
  )

jobQueue("memory", {
  layer: JobQueue.layerMemoryWith,
  elapse: TestClock.adjust,
  now: Clock.currentTimeMillis,
  worker: {}
})

jobQueue("redis", {
  layer: onRedis,
  elapse: (duration) =>
    Effect.promise(() => {
      serverClock.offsetMillis += Duration.toMillis(duration)
      return sleep(50)
    }),
  now: Effect.sync(() => Date.now() + serverClock.offsetMillis),
  // What the moved clock made due is found at the next look.
  worker: { poll: "20 millis" }
}, { excludeTestServices: true })

describe("JobQueue's engines", () => {
  it.effect("agree on any sequence of steps", () =>
    Effect.gen(function*() {
      const namespace = uniqueNamespace()
      const context = yield* Layer.build(RedisClient.layer({ url: sharedRedisUrl(), namespace })).pipe(
        Effect.provideService(ServerClock, serverClock)
      )
      const redis = yield* makeRedisEngine(Context.get(context, RedisClient), settings)
      const memory = makeMemoryEngine(settings)
      yield* agree(
        (n) => {
          const queue = { queue: `agree ${n}`, shared: false }
          return [memory.open(queue), redis.open(queue)]
        },
        // No two steps at the same moment, on either.
        (duration) =>
          Effect.andThen(
            TestClock.adjust(Duration.toMillis(duration) + 10),
            Effect.promise(() => {
              serverClock.offsetMillis += Duration.toMillis(duration)
              return sleep(1)
            })
          )
      )
    }), 60_000)
})

describe("Whoever holds jobs", () => {
  it.effect("hears of a cancellation that overtakes the job", () =>
    Effect.gen(function*() {
      const reply = yield* Deferred.make<StepReply>()
      // A holder needs no more of a store.
      const store = { step: () => Deferred.await(reply) } as unknown as QueueStore
      const ended: Array<unknown> = []
      const holder = makeHolder(store, "inbox", 10_000, ({ id }) => (why) => ended.push([id, why]))
      const step = yield* Effect.forkChild(holder.step(2, 0, 0))
      yield* Effect.yieldNow
      holder.cancel("a", "too late")
      holder.cancel("somebody else's", "x")
      const claims = ["a", "b"].map((id) => ({ id, token: 1, record: undefined }))
      yield* Deferred.succeed(reply, {
        claims,
        refused: [],
        lost: [],
        cancels: [],
        paused: false,
        willCall: false,
        nextMillis: undefined
      })
      yield* Fiber.join(step)
      assert.deepStrictEqual(ended, [["a", { kind: "cancelled", reason: "too late" }]])
      holder.cancel("b", "now")
      assert.deepStrictEqual(ended[1], ["b", { kind: "cancelled", reason: "now" }])
      // One that has ended, although nobody knows of it yet, cannot be cancelled any more.
      holder.settle("a", 1, { kind: "release", delayMillis: 0 })
      holder.cancel("a", "much too late")
      assert.strictEqual(ended.length, 2)
    }))
})

describe("Whoever works", () => {
  it.effect("looks again when the reply to its call is older than its subscription: nobody may have heard", () =>
    Effect.gen(function*() {
      const replies: Array<Deferred.Deferred<StepReply>> = []
      const store = {
        step: () => {
          const reply = Deferred.makeUnsafe<StepReply>()
          replies.push(reply)
          return Deferred.await(reply)
        }
      } as unknown as QueueStore
      const context = yield* Effect.context()
      const lane = makeLane({
        store,
        holder: makeHolder(store, "inbox", 10_000, () => () => {}),
        label: "It",
        pollMillis: 3_600_000,
        isRemote: true,
        nowMillis: () => 0,
        fork: Effect.runForkWith(context),
        turn: () => {},
        isOver: () => false,
        isClosing: () => false,
        called: () => {},
        stepped: () => {}
      })
      const idle = {
        claims: [],
        refused: [],
        lost: [],
        cancels: [],
        paused: false,
        willCall: true,
        nextMillis: undefined
      }
      const call = (meanwhile: () => void) =>
        Effect.gen(function*() {
          lane.call(1, 0)
          yield* Effect.yieldNow
          meanwhile()
          yield* Deferred.succeed(replies.at(-1)!, idle)
          while (lane.underWay() > 0) yield* Effect.yieldNow
          return lane.isCalled()
        })
      assert.isTrue(yield* call(() => {}))
      assert.isFalse(yield* call(lane.lookAround))
      assert.isTrue(yield* call(() => {}))
    }))
})

describe("A program in a test", () => {
  const Remind = Job.make("remind", { payload: Schema.String, success: Schema.String })
  const worker = JobWorker.layer([Remind.handler((name) => Effect.succeed(`reminded ${name}`))])

  it.effect("runs a job that is delayed by an hour when the clock is moved", () =>
    Effect.gen(function*() {
      const fiber = yield* Effect.forkChild(Effect.gen(function*() {
        const queue = yield* JobQueue
        const id = yield* queue.enqueue(Remind, "ada", { delay: "1 hour" })
        return yield* queue.result(Remind, id, { within: "2 hours" })
      }))
      yield* TestClock.adjust("59 minutes")
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* Fiber.join(fiber), "reminded ada")
      assert.strictEqual(yield* Clock.currentTimeMillis, 3_600_000)
    }).pipe(Effect.provide(Layer.provideMerge(worker, ServicesMemory))))
})
