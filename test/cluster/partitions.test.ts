/** A queue whose partitions are on several masters, of which one is away. */
import { assert, describe, it } from "@effect/vitest"
import { Context, type Duration, Effect, Layer, Schema } from "effect"
import { partitionBase } from "../../src/internal/partitionKeys.ts"
import * as Job from "../../src/Job.ts"
import { JobQueue } from "../../src/JobQueue.ts"
import { RedisClient } from "../../src/RedisClient.ts"
import { RedisCluster } from "../support/redisCluster.ts"
import { settingsOf } from "../support/suiteCluster.ts"

const partitions = 3

/** A name whose partitions are at a master each. */
const spreadOver = (all: RedisCluster, namespace: string) =>
  Effect.gen(function*() {
    for (let i = 0;; i++) {
      const bases = Array.from(
        { length: partitions },
        (_, partition) => partitionBase(namespace, `hot ${i}`, partition)
      )
      const owners = yield* Effect.forEach(bases, (base) => all.masterOf(base))
      if (new Set(owners).size === partitions) return { name: `hot ${i}`, owners }
    }
  })

const partitionOf = (id: string) => Number(id.split(".")[1])

/** The partition whose master each test takes down. */
const away = 1

/** A Cluster, and a queue with jobs in all of its partitions, each at a master of its own. */
const start = (commandTimeout: Duration.Input) =>
  Effect.gen(function*() {
    const all = yield* RedisCluster.start({
      masters: 3,
      replicas: 0,
      persistence: "aof-always",
      args: ["--cluster-require-full-coverage", "no"]
    })
    const settings = settingsOf(all, { commandTimeout })
    const context = yield* Layer.build(Layer.provideMerge(JobQueue.layer(), RedisClient.layer(settings)))
    const queue = Context.get(context, JobQueue)
    const { name, owners } = yield* spreadOver(all, settings.namespace!)
    const Spread = Job.make("spread", { payload: Schema.Finite, queue: name, partitions })
    const ids = yield* Effect.forEach(
      Array.from({ length: 60 }, (_, i) => i),
      (i) => queue.enqueue(Spread, i, { key: `key ${i}` })
    )
    const near = ids.filter((id) => partitionOf(id) !== away)
    assert.isBelow(near.length, ids.length)
    return { all, master: owners[away]!, queue, Spread, ids, near }
  })

describe("take, while the master of one partition is away", () => {
  it.live("goes on with the jobs of the others, wherever it begins, and with its own when it is back", () =>
    Effect.gen(function*() {
      const { all, ids, master, near, queue, Spread } = yield* start("200 millis")
      const finished: Array<string> = []
      /** Takes up to so many, and completes them. */
      const work = (count: number) =>
        Effect.scoped(Effect.gen(function*() {
          const jobs = yield* queue.take(Spread, count)
          yield* Effect.forEach(jobs, (job) => job.complete())
          finished.push(...jobs.map(({ id }) => id))
          return jobs.length
        }))

      yield* master.kill()
      // Each begins with another partition.
      for (let i = 0; i < partitions; i++) assert.isAtLeast(yield* work(Math.ceil(near.length / partitions)), 1)
      while (finished.length < near.length) assert.isAtLeast(yield* work(near.length), 1)
      assert.sameMembers(finished, near)
      assert.deepInclude(yield* Effect.flip(work(1)), { reason: "connection", outcome: "NotSent" })

      yield* master.restart
      yield* all.settled
      while (finished.length < ids.length) yield* work(ids.length)
      assert.sameMembers(finished, ids)
    }))

  it.live("keeps what it has of the others meanwhile", () =>
    Effect.gen(function*() {
      const { master, near, queue, Spread } = yield* start("1500 millis")
      yield* master.kill()
      // It begins with the first partition, and asks the one that is away for longer than a lease.
      const jobs = yield* queue.take(Spread, 100, { lease: "1 second" })
      assert.sameMembers(jobs.map(({ id }) => id), near)
      yield* Effect.forEach(jobs, (job) => job.complete())
    }))
})
