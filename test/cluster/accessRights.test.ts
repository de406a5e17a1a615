/** The rights that docs/security.md names are enough in a Cluster. */
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer, Redacted, Schema, Stream } from "effect"
import * as Channel from "../../src/Channel.ts"
import { DistributedLock } from "../../src/DistributedLock.ts"
import * as Job from "../../src/Job.ts"
import { JobQueue } from "../../src/JobQueue.ts"
import { JobWorker } from "../../src/JobWorker.ts"
import { PubSub, PubSubLive } from "../../src/PubSub.ts"
import * as RateLimit from "../../src/RateLimit.ts"
import { RateLimiter, RateLimiterLive } from "../../src/RateLimiter.ts"
import { Redis } from "../../src/Redis.ts"
import { RedisCluster } from "../support/redisCluster.ts"
import { clusterRights, everything } from "../support/securityRules.ts"

const Mail = Job.make("mail", { payload: Schema.String, success: Schema.String })
const Sharded = Channel.family((id: string) => id, Schema.String, { sharded: true })
const hourly = RateLimit.fixedWindow({ name: "hourly", limit: 3, window: "1 hour" })

describe("A user in a Cluster who has the rights that docs/security.md names", () => {
  it.live("can use every service, on every server, and is refused nothing", () =>
    Effect.scoped(Effect.gen(function*() {
      const rules = [...everything, ...clusterRights].join(" ")
      const cluster = yield* RedisCluster.start({ acl: [`api ${rules}`] })
      const services = Layer.mergeAll(
        PubSubLive,
        RateLimiterLive,
        DistributedLock.layer({ replicas: { count: 1 } }),
        JobWorker.layer([Mail.handler((to) => Effect.succeed(`sent to ${to}`))]).pipe(
          Layer.provideMerge(JobQueue.layer({ replicas: { count: 1 } }))
        )
      )
      const context = yield* Layer.build(
        Layer.provideMerge(
          services,
          Redis.layer({
            cluster: { nodes: cluster.addresses, readFrom: "replica" },
            username: "api",
            password: Redacted.make("password"),
            namespace: "api"
          })
        )
      )
      const [redis, pubsub, queue] = [
        Context.get(context, Redis),
        Context.get(context, PubSub),
        Context.get(context, JobQueue)
      ]
      const [locks, limiter] = [Context.get(context, DistributedLock), Context.get(context, RateLimiter)]
      const names = Array.from({ length: 30 }, (_, i) => `name ${i}`)
      yield* Effect.forEach(names, (name) =>
        Effect.scoped(Effect.gen(function*() {
          const heard = yield* pubsub.subscribeScoped(Sharded(name))
          assert.strictEqual(yield* pubsub.publish(Sharded(name), name), 1)
          assert.deepStrictEqual(yield* Stream.runCollect(Stream.take(heard, 1)), [name])
          yield* redis.set(name, name)
          yield* redis.get(name)
          yield* locks.withLock(name)(Effect.void)
          yield* limiter.check(hourly, name)
        })))
      assert.strictEqual((yield* Stream.runCollect(redis.scan("name*"))).length, 30)
      yield* redis.del(names)
      const id = yield* queue.enqueue(Mail, "ada")
      assert.strictEqual(yield* queue.result(Mail, id, { within: "5 seconds" }), "sent to ada")
      for (const node of cluster.nodes) assert.deepStrictEqual(yield* node.cli("ACL", "LOG"), [])
    })), 20_000)
})
