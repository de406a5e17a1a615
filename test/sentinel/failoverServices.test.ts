/** Jobs and locks, when another server becomes the master. */
import { assert, describe, it } from "@effect/vitest"
import { Context, Deferred, Effect, Fiber, Layer, Option, Schema } from "effect"
import { DistributedLock, type DistributedLockOptions } from "../../src/DistributedLock.ts"
import * as Job from "../../src/Job.ts"
import { JobQueue, type JobQueueOptions } from "../../src/JobQueue.ts"
import { JobWorker } from "../../src/JobWorker.ts"
import { RedisClient } from "../../src/RedisClient.ts"
import { eventually } from "../support/queuesOnRedis.ts"
import { RedisSentinel } from "../support/redisSentinel.ts"

const Count = Job.make("count", { payload: Schema.Finite })

const replicas = { count: 1, within: "2 seconds" } as const

/** Services through the Sentinels of `deployment`. */
const services = (deployment: RedisSentinel, options?: JobQueueOptions & DistributedLockOptions) =>
  Effect.gen(function*() {
    const sentinel = { name: deployment.name, nodes: deployment.addresses }
    const client = yield* Layer.build(RedisClient.layer({ sentinel, commandTimeout: "10 seconds" }))
    const context = yield* Layer.build(Layer.mergeAll(JobQueue.layer(options), DistributedLock.layer(options))).pipe(
      Effect.provideContext(client)
    )
    return {
      client: Context.get(client, RedisClient),
      queue: Context.get(context, JobQueue),
      locks: Context.get(context, DistributedLock),
      /** A worker, and what it has done. */
      work: Effect.gen(function*() {
        const done = new Set<number>()
        const handler = Count.handler((n) => Effect.sync(() => void done.add(n)))
        yield* Layer.build(JobWorker.layer([handler], { concurrency: 5 })).pipe(Effect.provideContext(context))
        return done
      })
    }
  })

/** Enqueues numbers from `from` on, and yields those that were acknowledged. */
const enqueue = (queue: JobQueue["Service"], from: number, count: number) =>
  Effect.map(
    Effect.forEach(
      Array.from({ length: count }, (_, i) => from + i),
      (n) => Effect.match(queue.enqueue(Count, n), { onSuccess: () => [n], onFailure: () => [] }),
      { concurrency: 10 }
    ),
    (acknowledged) => acknowledged.flat()
  )

const allDone = (done: ReadonlySet<number>, wanted: ReadonlyArray<number>) =>
  eventually("all jobs are done", Effect.sync(() => wanted.every((n) => done.has(n))))

/** From now on, replicas do not hear of what the master does. */
const cutOffReplicas = (deployment: RedisSentinel) =>
  Effect.gen(function*() {
    for (const replica of yield* deployment.replicas) yield* replica.cli("CONFIG", "SET", "masterauth", "wrong")
    yield* (yield* deployment.master).cli("CLIENT", "KILL", "TYPE", "replica")
  })

describe("Jobs", () => {
  it.live("that were enqueued before a failover, during it and after it are all done", () =>
    Effect.gen(function*() {
      const deployment = yield* RedisSentinel.start()
      const { queue, work } = yield* services(deployment)
      const before = yield* enqueue(queue, 0, 100)
      yield* (yield* deployment.master).cli("WAIT", 1, 0)
      const done = yield* work
      yield* deployment.killMaster
      const during = yield* enqueue(queue, 100, 100)
      assert.lengthOf([...before, ...during], 200)
      yield* deployment.settled
      const after = yield* enqueue(queue, 200, 100)
      yield* allDone(done, [...before, ...during, ...after])
    }).pipe(Effect.scoped))

  it.live("that a replica had when they were acknowledged are all done, though the master is killed meanwhile", () =>
    Effect.gen(function*() {
      const deployment = yield* RedisSentinel.start()
      const { queue, work } = yield* services(deployment, { replicas })
      const acknowledged: Array<number> = []
      let next = 0
      let stopping = false
      const enqueueing = yield* Effect.forkChild(Effect.repeat(
        Effect.suspend(() => enqueue(queue, next += 10, 10)).pipe(
          Effect.map((more) => acknowledged.push(...more))
        ),
        { until: () => stopping }
      ))
      yield* eventually("more are enqueued", Effect.sync(() => acknowledged.length > 200))
      yield* deployment.killMaster
      stopping = true
      yield* Fiber.join(enqueueing)
      yield* allDone(yield* work, acknowledged)
    }).pipe(Effect.scoped))
})

describe("A lock", () => {
  it.live("that the new master does not know is lost: the work is interrupted, and the next token is greater", () =>
    Effect.gen(function*() {
      const deployment = yield* RedisSentinel.start()
      const { locks } = yield* services(deployment)
      const before = yield* deployment.master
      yield* cutOffReplicas(deployment)
      const held = yield* Deferred.make<number>()
      let interrupted = false
      const working = yield* Effect.forkChild(Effect.flip(
        locks.withLock("a", { ttl: "6 seconds" })((lease) =>
          Effect.andThen(Deferred.succeed(held, lease.token), Effect.never).pipe(
            Effect.onInterrupt(() => Effect.sync(() => void (interrupted = true)))
          )
        )
      ))
      const token = yield* Deferred.await(held)
      yield* before.kill()
      assert.propertyVal(yield* Fiber.join(working), "_tag", "LockLost")
      assert.isTrue(interrupted)
      assert.isTrue(Option.isNone(yield* locks.inspect("a")))
      const next = yield* locks.withLock("a")((lease) => Effect.succeed(lease.token))
      assert.isAbove(next, token)
    }).pipe(Effect.scoped))

  it.live("is lost in time when no master is found", () =>
    Effect.gen(function*() {
      const deployment = yield* RedisSentinel.start()
      const { locks } = yield* services(deployment)
      const before = yield* deployment.master
      for (const replica of yield* deployment.replicas) yield* replica.kill()
      const error = yield* Effect.flip(
        locks.withLock("a", { ttl: "600 millis" })(() => Effect.andThen(before.kill(), Effect.never))
      )
      assert.propertyVal(error, "_tag", "LockLost")
    }).pipe(Effect.scoped))

  it.live("that a replica had when it was taken outlives the master", () =>
    Effect.gen(function*() {
      const deployment = yield* RedisSentinel.start()
      const { locks } = yield* services(deployment, { replicas })
      yield* locks.withLock("a", { ttl: "6 seconds" })((lease) =>
        Effect.gen(function*() {
          yield* deployment.killMaster
          yield* deployment.settled
          const master = yield* deployment.master
          const expiry = () => Effect.map(master.cli("PTTL", "app:lock:{a}"), Number)
          const left = yield* expiry()
          yield* eventually("it is extended", Effect.map(expiry(), (now) => now > left))
          assert.strictEqual(Option.getOrThrow(yield* locks.inspect("a")).token, lease.token)
        })
      )
      assert.isTrue(Option.isNone(yield* locks.inspect("a")))
    }).pipe(Effect.scoped))
})
