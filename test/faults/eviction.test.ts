/** Keys that the server evicts, as its memory is full and its policy lets it: what was lost is told, and all goes on. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Option, Schema, type Scope, Stream } from "effect"
import * as Channel from "../../src/Channel.ts"
import { type QueueKey, queueKeyNames } from "../../src/internal/queueKeys.ts"
import * as Job from "../../src/Job.ts"
import * as RateLimit from "../../src/RateLimit.ts"
import { becomes, holdUntilLost, type Program, startProgram } from "../support/program.ts"
import { wait } from "../support/queuesOnRedis.ts"
import { RedisServer } from "../support/redisServer.ts"

const Text = Job.make("text", {
  payload: Schema.String,
  success: Schema.String,
  error: Schema.String,
  attempts: 2,
  backoff: { kind: "fixed", delay: "1 hour" }
})

interface Small extends Program {
  readonly server: RedisServer
  /** All keys are evicted. */
  readonly evictAll: Effect.Effect<void>
}

const test = <A, E>(run: (small: Small) => Effect.Effect<A, E, Scope.Scope>) => () =>
  Effect.scoped(Effect.gen(function*() {
    const server = yield* RedisServer.start({ args: ["--maxmemory-policy", "allkeys-lru"] })
    const program = yield* startProgram({ url: server.url, namespace: "small" })
    const evictAll = Effect.gen(function*() {
      yield* server.cli("CONFIG", "SET", "maxmemory", 1)
      yield* becomes("all are evicted", server.cli("DBSIZE"), (size) => size === 0)
      yield* server.cli("CONFIG", "SET", "maxmemory", 0)
    })
    return yield* run({ ...program, server, evictAll })
  }))

/** How many scripts the server runs while nobody wants anything. */
const scriptsAtRest = (server: RedisServer) =>
  Effect.gen(function*() {
    yield* server.cli("CONFIG", "RESETSTAT")
    yield* wait(60)
    const stats = String(yield* server.cli("INFO", "commandstats"))
    return Number(/cmdstat_evalsha:calls=(\d+)/.exec(stats)?.[1] ?? 0)
  })

describe("A server that evicts keys", () => {
  it.live(
    "takes a lock: its holder is interrupted, and tokens grow on",
    test(({ evictAll, locks }) =>
      Effect.gen(function*() {
        const { token, working } = yield* holdUntilLost(locks, "lock")
        yield* evictAll
        assert.deepInclude(yield* Fiber.join(working), { _tag: "LockLost", reason: "removed" })
        assert.isAbove(yield* locks.withLock("lock")((lease) => Effect.succeed(lease.token)), token)
      })
    )
  )

  it.live(
    "takes the line for a lock: those in it ask again, and get it one after the other",
    test(({ evictAll, locks }) =>
      Effect.gen(function*() {
        const holding = yield* Effect.forkChild(
          Effect.flip(locks.withLock("lock", { ttl: "300 millis" })(Effect.never))
        )
        yield* becomes("it is held", locks.inspect("lock"), Option.isSome)
        let inside = 0
        const turn = locks.withLock("lock", { ttl: "300 millis" })(
          Effect.acquireUseRelease(
            Effect.sync(() => assert.strictEqual(++inside, 1)),
            () => wait(1),
            () => Effect.sync(() => inside--)
          )
        )
        const waiting = yield* Effect.forEach([1, 2, 3], () => Effect.forkChild(turn))
        yield* becomes("all wait", locks.inspect("lock"), Option.exists(({ waiters }) => waiters === 3))
        yield* evictAll
        yield* Fiber.joinAll(waiting)
        assert.include(yield* Fiber.join(holding), { _tag: "LockLost" })
      })
    )
  )

  it.live(
    "takes what a limiter has counted: it counts anew",
    test(({ evictAll, limiter }) =>
      Effect.gen(function*() {
        const daily = RateLimit.fixedWindow({ name: "daily", limit: 2, window: "1 day" })
        const bucket = RateLimit.tokenBucket({ name: "bucket", capacity: 2, refill: 1, per: "1 day" })
        for (const remaining of [1, 0]) {
          assert.include(yield* limiter.check([daily, bucket], "ada"), { allowed: true, remaining })
        }
        assert.include(yield* limiter.check([daily, bucket], "ada"), { allowed: false })
        yield* evictAll
        assert.include(yield* limiter.check([daily, bucket], "ada"), { allowed: true, remaining: 1 })
      })
    )
  )

  it.live(
    "takes no subscription, and no message",
    test(({ evictAll, pubsub }) =>
      Effect.gen(function*() {
        const News = Channel.make("news", Schema.String)
        const stream = yield* pubsub.eventsScoped(News)
        yield* pubsub.publish(News, "before")
        yield* evictAll
        yield* pubsub.publish(News, "after")
        const events = yield* Stream.runCollect(Stream.take(stream, 2))
        assert.deepStrictEqual(events.map(({ _tag }) => _tag), ["Message", "Message"])
      })
    )
  )

  it.live(
    "takes a queue: those who wait are told, those who hold its jobs lose them, and workers do what comes",
    test(({ evictAll, queue, server, work }) =>
      Effect.gen(function*() {
        const [held, waiting] = yield* queue.enqueueAll(Text, ["held", "waiting"])
        const [job] = yield* queue.take(Text, 1)
        assert.strictEqual(job!.id, held)
        const results = yield* Effect.forEach(
          [held!, waiting!],
          (id) => Effect.forkChild(Effect.flip(queue.result(Text, id, { within: "10 seconds" })))
        )
        yield* becomes("both are waited for", server.cli("HLEN", "small:queue:{text}:awaited"), (many) => many === 2)
        yield* evictAll
        assert.include(yield* Effect.flip(job!.complete("late")), { _tag: "LeaseLost" })
        assert.include(yield* queue.counts(Text), { waiting: 0, active: 0, failed: 0, finished: 0 })
        yield* work([Text.handler(Effect.succeed)])
        const id = yield* queue.enqueue(Text, "new")
        assert.strictEqual(yield* queue.result(Text, id, { within: "5 seconds" }), "new")
        // Nobody tells them, and they ask again after some seconds, or as soon as they may have missed something.
        yield* server.cli("CLIENT", "KILL", "TYPE", "pubsub")
        for (const each of results) assert.include(yield* Fiber.join(each), { _tag: "ResultExpired" })
      })
    )
  )
})

describe("A queue of which a single key was evicted", () => {
  // What of its jobs is then lost. Of all others, and of those that come later, none is.
  const lost: { readonly [Key in QueueKey]?: ReadonlyArray<string> } = {
    ready_5: ["waiting"],
    jobs: ["waiting", "delayed", "held", "failing"],
    delayed: ["delayed", "failing"],
    holders: ["held"]
  }

  it.live.each(queueKeyNames.filter((name) => !/^ready_[^5]/.test(name)))(
    "works on, and loses no more than it has to, without %s",
    (name) =>
      test(({ queue, server, work }) =>
        Effect.gen(function*() {
          const ids = ["done", "dead", "failing", "held", "waiting", "delayed"]
          yield* queue.enqueueAll(Text, ids.slice(0, 3), { ids: ids.slice(0, 3) })
          const [done, dead, failing] = yield* queue.take(Text, 3)
          yield* done!.complete("done")
          yield* failing!.fail("again")
          yield* dead!.fail("once")
          yield* queue.promote(Text, "dead")
          const [deadAgain] = yield* queue.take(Text, 1)
          yield* deadAgain!.fail("for good")
          yield* queue.enqueue(Text, "held", { id: "held" })
          const holder = yield* Effect.forkChild(Effect.scoped(Effect.andThen(
            queue.take(Text, 1, { lease: 200 }),
            Effect.never
          )))
          yield* becomes("it is held", queue.counts(Text), ({ active }) => active === 1)
          yield* queue.enqueueAll(Text, ["waiting"], { ids: ["waiting"] })
          yield* queue.enqueueAll(Text, ["delayed"], { ids: ["delayed"], delay: "1 hour" })

          yield* server.cli("DEL", `small:queue:{text}:${name}`)

          // Whatever is asked, is answered.
          yield* queue.counts(Text)
          for (const state of ["waiting", "delayed", "active", "failed", "finished"] as const) {
            yield* queue.list(Text, { state })
          }
          for (const id of ids) yield* queue.get(Text, id)
          yield* queue.retry(Text, "dead")
          for (const id of ["delayed", "failing"]) yield* queue.promote(Text, id)
          yield* Fiber.interrupt(holder)
          const ran: Array<string> = []
          yield* work([Text.handler((text) => Effect.sync(() => (ran.push(text), text)))], { poll: 30 })
          yield* queue.enqueue(Text, "new", { id: "new" })
          assert.strictEqual(yield* queue.result(Text, "new", { within: "5 seconds" }), "new")
          yield* queue.pause(Text)
          yield* queue.resume(Text)
          const expected = [...ids.slice(2), "new"].filter((id) => lost[name]?.includes(id) !== true)
          yield* becomes("the others have run", Effect.sync(() => [...ran]), (ran) =>
            expected.every((id) => ran.includes(id)))
          yield* becomes("nothing is left to do", queue.counts(Text), ({ active }) =>
            active === 0)
          // An idle worker looks twice in this time, and two letters may be on their way.
          assert.isAtMost(yield* scriptsAtRest(server), 6)
        })
      )()
  )
})
