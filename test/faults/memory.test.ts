/** A server whose memory is full: what is refused is refused whole, and what makes room goes on. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Option, Schema, Scope, Stream } from "effect"
import * as Channel from "../../src/Channel.ts"
import * as Job from "../../src/Job.ts"
import * as RateLimit from "../../src/RateLimit.ts"
import { becomes, type Program, startProgram } from "../support/program.ts"
import { wait } from "../support/queuesOnRedis.ts"
import { RedisServer } from "../support/redisServer.ts"

const Text = Job.make("text", {
  payload: Schema.String,
  success: Schema.String,
  error: Schema.String,
  attempts: 2,
  backoff: { kind: "fixed", delay: 30 }
})
const News = Channel.make("news", Schema.String)
const daily = RateLimit.fixedWindow({ name: "daily", limit: 5, window: "1 day" })
const hourly = RateLimit.slidingWindow({ name: "hourly", limit: 4, window: "1 hour" })

interface Full extends Program {
  readonly server: RedisServer
  readonly fill: Effect.Effect<unknown>
  readonly empty: Effect.Effect<unknown>
  /** Expects that it is refused for want of memory, and has changed nothing that `look` shows; by default, all data. */
  readonly isRefused: (operation: Effect.Effect<unknown, unknown>, look?: Effect.Effect<unknown>) => Effect.Effect<void>
}

const test = <A, E>(run: (full: Full) => Effect.Effect<A, E, Scope.Scope>) => () =>
  Effect.scoped(Effect.gen(function*() {
    const server = yield* RedisServer.start()
    const program = yield* startProgram({ url: server.url })
    return yield* run({
      ...program,
      server,
      fill: server.cli("CONFIG", "SET", "maxmemory", 1),
      empty: server.cli("CONFIG", "SET", "maxmemory", 0),
      isRefused: (operation, look = server.cli("DEBUG", "DIGEST")) =>
        Effect.gen(function*() {
          const before = yield* look
          const error = yield* Effect.orDie(Effect.flip(operation))
          assert.deepInclude(error, { _tag: "RedisError", reason: "out-of-memory", outcome: "Rejected" })
          assert.deepStrictEqual(yield* look, before)
        })
    })
  }))

describe("A server whose memory is full", () => {
  it.live(
    "refuses what stores more, reads and deletes, and takes all again once there is room",
    test(({ empty, fill, isRefused, redis }) =>
      Effect.gen(function*() {
        yield* redis.set("a", "1")
        yield* fill
        yield* isRefused(redis.set("b", "2"))
        yield* isRefused(redis.incr("a"))
        assert.deepStrictEqual(yield* redis.get("a"), Option.some("1"))
        yield* redis.del("a")
        yield* empty
        assert.strictEqual(yield* redis.incr("b"), 1)
      })
    )
  )

  it.live(
    "takes from none of several limits, still tells how they stand, and counts on where they were",
    test(({ empty, fill, isRefused, limiter }) =>
      Effect.gen(function*() {
        yield* limiter.check([daily, hourly], "ada")
        yield* fill
        yield* isRefused(limiter.check([daily, hourly], "ada"))
        yield* isRefused(limiter.check([daily, hourly], "bob"))
        yield* isRefused(limiter.limit(daily, "ada")(Effect.die("it ran")))
        assert.strictEqual((yield* limiter.peek(daily, "ada")).remaining, 4)
        const verdict = yield* limiter.check([daily, hourly], "ada", { onUnavailable: "deny" })
        assert.include(verdict, { allowed: false, degraded: true })
        yield* limiter.reset(hourly, "ada")
        yield* empty
        assert.strictEqual((yield* limiter.check([daily, hourly], "ada")).remaining, 3)
      })
    )
  )

  it.live(
    "hands out no lock, but lets those who hold one keep it past its ttl, and free it",
    test(({ empty, fill, isRefused, locks, server }) =>
      Effect.gen(function*() {
        const holder = yield* Scope.make()
        const lease = yield* Scope.provide(locks.acquire("held", { ttl: "100 millis" }), holder)
        yield* fill
        yield* Effect.raceFirst(lease.lost, wait(180))
        yield* lease.extend()
        // The lease goes on being extended.
        const keys = Effect.map(server.cli("KEYS", "*"), (found) => (found as ReadonlyArray<string>).toSorted())
        yield* isRefused(Effect.scoped(locks.tryAcquire("other")), keys)
        yield* isRefused(locks.withLock("held")(Effect.die("it ran")), keys)
        yield* isRefused(locks.guardedSet(lease, "text", "x"), keys)
        assert.isTrue(Option.isSome(yield* locks.inspect("held")))
        yield* Scope.close(holder, Exit.void)
        assert.isTrue(Option.isNone(yield* locks.inspect("held")))
        yield* empty
        assert.isAbove(yield* locks.withLock("held")(({ token }) => Effect.succeed(token)), lease.token)
      })
    )
  )

  it.live(
    "tells those who are in line for a lock, each of them, and keeps it for none of them",
    test(({ empty, fill, locks }) =>
      Effect.gen(function*() {
        const holder = yield* Scope.make()
        yield* Scope.provide(locks.acquire("lock"), holder)
        const waiting = yield* Effect.forEach([1, 2, 3], () => Effect.forkChild(locks.withLock("lock")(Effect.void)))
        yield* becomes("all wait", locks.inspect("lock"), Option.exists(({ waiters }) => waiters === 3))
        yield* fill
        yield* Scope.close(holder, Exit.void)
        for (const each of waiting) {
          assert.deepInclude(yield* Effect.flip(Fiber.join(each)), { reason: "out-of-memory", outcome: "Rejected" })
        }
        assert.isTrue(Option.isNone(yield* locks.inspect("lock")))
        yield* empty
        yield* locks.withLock("lock", { wait: 0 })(Effect.void)
      })
    )
  )

  it.live(
    "delivers messages, to new subscribers too",
    test(({ fill, pubsub }) =>
      Effect.gen(function*() {
        const before = yield* pubsub.subscribeScoped(News)
        yield* fill
        const after = yield* pubsub.subscribeScoped(News)
        assert.strictEqual(yield* pubsub.publish(News, "x"), 1)
        assert.deepStrictEqual(yield* pubsub.publishAll(News, ["y", "z"]), [1, 1])
        for (const stream of [before, after]) {
          assert.deepStrictEqual(Array.from(yield* Stream.runCollect(Stream.take(stream, 3))), ["x", "y", "z"])
        }
      })
    )
  )

  it.live(
    "takes no job, whatever kind, and none of a batch",
    test(({ empty, fill, isRefused, queue }) =>
      Effect.gen(function*() {
        const [first] = yield* queue.enqueueAll(Text, ["a", "b"])
        // An entry without a job is left behind, so that the next job begins a generation.
        yield* queue.remove(Text, first!)
        yield* fill
        for (
          const options of [
            {},
            { delay: "1 minute" },
            { lifo: true },
            { tenant: "t" },
            { priority: 9 },
            { id: first! }
          ] as const
        ) yield* isRefused(queue.enqueue(Text, "x", options))
        yield* isRefused(queue.enqueueAll(Text, Array.from({ length: 1000 }, String), { tenant: "t", lifo: true }))
        yield* isRefused(Effect.forEach(["x", "y", "z"], (text) => queue.enqueue(Text, text), { concurrency: 3 }))
        yield* isRefused(Stream.runDrain(queue.enqueueChunks(Text, ["x"])))
        yield* empty
        yield* queue.enqueue(Text, "c", { id: first! })
        assert.deepStrictEqual((yield* queue.take(Text, 10)).map(({ payload }) => payload), ["b", "c"])
      })
    )
  )

  it.live(
    "is worked empty: jobs run, fail, come again, are put off, end, and those who wait hear of it",
    test(({ fill, queue, work }) =>
      Effect.gen(function*() {
        const ids = yield* queue.enqueueAll(Text, ["fine", "again", "never", "later"], { ids: ["f", "a", "n", "l"] })
        const delayed = yield* queue.enqueue(Text, "delayed", { delay: 50 })
        yield* fill
        let postponed = false
        yield* work([
          Text.handler((text, { attempt }) =>
            Effect.gen(function*() {
              if (text === "never" || (text === "again" && attempt === 1)) return yield* Effect.fail(text)
              if (text === "later" && !postponed) {
                postponed = true
                return yield* Job.postpone(20)
              }
              return text
            })
          )
        ], { lease: 300 })
        const results = yield* Effect.forEach(
          [...ids, delayed],
          (id) => Effect.result(queue.result(Text, id, { within: "5 seconds" })),
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual(results.map(({ _tag }) => _tag), ["Success", "Success", "Failure", "Success", "Success"])
        assert.include(yield* queue.counts(Text), { waiting: 0, delayed: 0, active: 0, failed: 1, finished: 4 })
      })
    )
  )

  it.live(
    "can be put in order: jobs are cancelled, removed, retried, promoted, drained, and a queue resumed and paused",
    test(({ fill, queue }) =>
      Effect.gen(function*() {
        yield* queue.enqueueAll(Text, ["a", "b", "c"], { ids: ["a", "b", "c"] })
        yield* queue.enqueueAll(Text, ["d", "e"], { ids: ["d", "e"], delay: "1 hour" })
        const [a] = yield* queue.take(Text, 1)
        yield* queue.pause(Text)
        yield* fill
        yield* queue.resume(Text)
        assert.strictEqual(yield* queue.cancel(Text, "a"), "requested")
        assert.strictEqual(yield* queue.cancel(Text, "b"), "cancelled")
        assert.isTrue(yield* queue.remove(Text, "c"))
        assert.isTrue(yield* queue.promote(Text, "d"))
        const [d] = yield* queue.take(Text, 1)
        yield* a!.complete("a")
        yield* d!.fail("not today")
        yield* queue.pause(Text)
        assert.isTrue((yield* queue.counts(Text)).paused)
        assert.strictEqual(yield* queue.clear(Text), 2)
        assert.include(yield* queue.counts(Text), { waiting: 0, delayed: 0, active: 0 })
      })
    )
  )
})
