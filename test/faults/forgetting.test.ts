/** The server forgets its scripts, again and again, or everything that it had. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Option, Schema, type Scope, Stream } from "effect"
import * as Channel from "../../src/Channel.ts"
import * as Job from "../../src/Job.ts"
import * as RateLimit from "../../src/RateLimit.ts"
import { becomes, holdUntilLost, type Program, startProgram } from "../support/program.ts"
import { wait } from "../support/queuesOnRedis.ts"
import { RedisServer } from "../support/redisServer.ts"

const Text = Job.make("text", { payload: Schema.String, success: Schema.String })
const daily = RateLimit.fixedWindow({ name: "daily", limit: 1000, window: "1 day" })
const smooth = RateLimit.gcra({ name: "smooth", limit: 1000, period: "1 second", burst: 1 })

const test = <A, E>(run: (program: Program, server: RedisServer) => Effect.Effect<A, E, Scope.Scope>) => () =>
  Effect.scoped(Effect.gen(function*() {
    const server = yield* RedisServer.start()
    return yield* run(yield* startProgram({ url: server.url, namespace: "gone" }), server)
  }))

describe("A server that forgets its scripts again and again", () => {
  it.live(
    "is told them again, and no service notices",
    test(({ limiter, locks, queue, redis, work }, server) =>
      Effect.gen(function*() {
        yield* Effect.forkScoped(Effect.forever(Effect.andThen(server.cli("SCRIPT", "FLUSH"), wait(1))))
        let inside = 0
        yield* work([Text.handler(Effect.succeed)], { concurrency: 3 })
        const once = (i: number) =>
          Effect.gen(function*() {
            yield* locks.withLock("lock", { ttl: "1 second" })((lease) =>
              Effect.gen(function*() {
                assert.strictEqual(++inside, 1, "two at a time")
                yield* lease.extend()
                yield* locks.guardedSet(lease, "text", String(i))
                inside--
              })
            )
            yield* limiter.check([daily, smooth], "ada")
            yield* limiter.limit(smooth, "ada", { wait: "1 second" })(Effect.void)
            const id = yield* queue.enqueue(Text, String(i))
            assert.strictEqual(yield* queue.result(Text, id, { within: "5 seconds" }), String(i))
            yield* queue.counts(Text)
            yield* redis.incr("count")
          })
        yield* Effect.forEach(Array.from({ length: 60 }, (_, i) => i), once, { concurrency: 6 })
        assert.deepStrictEqual(yield* redis.get("count"), Option.some("60"))
        assert.include(yield* queue.counts(Text), { waiting: 0, active: 0, failed: 0, finished: 60 })
        const stats = String(yield* server.cli("INFO", "commandstats"))
        assert.isAbove(Number(/cmdstat_eval:calls=(\d+)/.exec(stats)?.[1] ?? 0), 20)
      })
    )
  )
})

describe("A server that comes back without its data", () => {
  it.live(
    "has locks lost by their holders, and taken by those in line, with greater tokens",
    test(({ locks }, server) =>
      Effect.gen(function*() {
        const { token, working } = yield* holdUntilLost(locks, "lock")
        const waiting = yield* Effect.forkChild(locks.withLock("lock")((lease) => Effect.succeed(lease.token)))
        yield* becomes("one waits", locks.inspect("lock"), Option.exists(({ waiters }) => waiters === 1))
        yield* server.restart
        assert.include(yield* Fiber.join(working), { _tag: "LockLost" })
        assert.isAbove(yield* Fiber.join(waiting), token)
      })
    )
  )

  it.live(
    "counts limits anew, and lets those who wait for a turn have it",
    test(({ limiter }, server) =>
      Effect.gen(function*() {
        const one = RateLimit.fixedWindow({ name: "one", limit: 1, window: "300 millis" })
        yield* limiter.check([one, daily], "ada")
        const waiting = yield* Effect.forkChild(limiter.limit([one, daily], "ada", { wait: "5 seconds" })(Effect.void))
        yield* wait(20)
        yield* server.restart
        yield* Fiber.join(waiting)
        assert.strictEqual((yield* limiter.peek(daily, "ada")).remaining, 999)
      })
    )
  )

  it.live(
    "keeps sending what is published to those who had subscribed, behind a gap",
    test(({ pubsub }, server) =>
      Effect.gen(function*() {
        const News = Channel.make("news", Schema.String)
        const stream = yield* pubsub.eventsScoped(News)
        yield* server.restart
        yield* becomes("it is heard", pubsub.publish(News, "after"), (heard) => heard === 1)
        const events = yield* Stream.runCollect(Stream.take(stream, 2))
        assert.deepStrictEqual(events.map(({ _tag }) => _tag), ["Gap", "Message"])
      })
    )
  )
})
