/** Replies take longer than a third of a lease, the time after which it is extended: leases hold, or are given up in time. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Option, Schema, type Scope, Stream } from "effect"
import * as Channel from "../../src/Channel.ts"
import * as Job from "../../src/Job.ts"
import * as RateLimit from "../../src/RateLimit.ts"
import { becomes, type Program, startProgram } from "../support/program.ts"
import { Proxy } from "../support/proxy.ts"
import { wait } from "../support/queuesOnRedis.ts"
import { sharedRedisUrl, uniqueNamespace } from "../support/sharedRedis.ts"
import { record } from "../support/twoSides.ts"

const Text = Job.make("text", { payload: Schema.String, success: Schema.String })

const Warm = Job.make("warm", { payload: Schema.Void })

interface Slow {
  /** On a connection that is as slow as the test wants. */
  readonly slow: Program
  readonly fast: Program
  /** How long each reply takes from now on. */
  readonly latency: (millis: number) => Effect.Effect<void>
}

const test = <A, E>(run: (slow: Slow) => Effect.Effect<A, E, Scope.Scope>) => () =>
  Effect.scoped(Effect.gen(function*() {
    const proxy = yield* Proxy.start({ port: Number(new URL(sharedRedisUrl()).port) })
    const namespace = uniqueNamespace()
    const slow = yield* startProgram({ url: proxy.url, namespace })
    const fast = yield* startProgram({ url: sharedRedisUrl(), namespace })
    yield* useEveryScript(fast)
    return yield* run({
      slow,
      fast,
      latency: (millis) => proxy.delay(millis / 2)
    })
  }))

// A script that the server does not know yet takes two replies.
const useEveryScript = ({ locks, queue }: Program) =>
  Effect.gen(function*() {
    const lease = yield* locks.acquire("warm")
    yield* lease.extend()
    yield* queue.enqueue(Warm, undefined)
    const [job] = yield* queue.take(Warm, 1)
    yield* job!.complete()
  }).pipe(Effect.scoped, Effect.orDie)

/** Fails when it is entered a second time. */
const alone = () => {
  let inside = 0
  return <A, E>(work: Effect.Effect<A, E>) =>
    Effect.acquireUseRelease(
      Effect.sync(() => assert.strictEqual(++inside, 1, "two at a time")),
      () => work,
      () => Effect.sync(() => inside--)
    )
}

describe("Latency above a third of a lock's lease", () => {
  it.live(
    "does not cost the lock: it is held for longer than its ttl",
    test(({ fast, latency, slow }) =>
      Effect.gen(function*() {
        yield* latency(410)
        let isOver = false
        const work = Effect.andThen(wait(1300), Effect.sync(() => isOver = true))
        const working = yield* Effect.forkChild(slow.locks.withLock("lock", { ttl: 1200 })(work))
        yield* becomes("it is held", fast.locks.inspect("lock"), Option.isSome)
        const attempt = Effect.gen(function*() {
          const exit = yield* Effect.exit(Effect.scoped(fast.locks.tryAcquire("lock")))
          assert.isTrue(isOver || Exit.isFailure(exit))
          yield* wait(5)
        })
        yield* Effect.raceFirst(Fiber.join(working), Effect.forever(attempt))
      })
    )
  )

  it.live(
    "ends the work before another holder begins, when extensions come too late",
    test(({ fast, latency, slow }) =>
      Effect.gen(function*() {
        const inside = alone()
        const working = yield* Effect.forkChild(
          Effect.flip(slow.locks.withLock("lock", { ttl: 300 })(inside(Effect.never)))
        )
        yield* becomes("it is held", fast.locks.inspect("lock"), Option.isSome)
        const others = yield* Effect.forEach(
          [1, 2],
          () => Effect.forkChild(fast.locks.withLock("lock")(inside(wait(5))))
        )
        yield* latency(700)
        assert.deepInclude(yield* Fiber.join(working), { _tag: "LockLost", reason: "unconfirmed" })
        yield* Fiber.joinAll(others)
      })
    )
  )

  it.live(
    "leaves one holder at a time, while it comes and goes",
    test(({ fast, latency, slow }) =>
      Effect.gen(function*() {
        const inside = alone()
        let turns = 0
        const turn = (program: Program) =>
          Effect.ignore(
            program.locks.withLock("lock", { ttl: 120, wait: 500 })(
              inside(Effect.andThen(wait(10), Effect.sync(() => turns++)))
            )
          )
        const contenders = yield* Effect.forEach([slow, slow, fast, fast], (program) =>
          Effect.forkChild(Effect.forever(turn(program))))
        for (const millis of [50, 130, 0, 90, 200, 0]) {
          yield* latency(millis)
          yield* wait(120)
        }
        const before = turns
        yield* becomes(
          "they go on",
          Effect.sync(() =>
            turns
          ),
          (now) => now > before + 10
        )
        yield* Fiber.interruptAll(contenders)
        assert.isTrue(Option.isNone(yield* fast.locks.inspect("lock")))
      })
    )
  )
})

describe("Latency above a third of a job's lease", () => {
  it.live(
    "has a worker do each job once, without its leases passing",
    test(({ fast, latency, slow }) =>
      Effect.gen(function*() {
        const events = yield* record(fast.queue, Text)
        const ran: Array<string> = []
        yield* slow.work([
          Text.handler((text) =>
            Effect.as(Effect.andThen(Effect.sync(() => ran.push(text)), wait(text === "long" ? 1300 : 20)), text)
          )
        ], { lease: 1200, concurrency: 5 })
        yield* latency(410)
        const texts = ["long", ...Array.from({ length: 20 }, (_, i) => `job ${i}`)]
        const ids = yield* fast.queue.enqueueAll(Text, texts)
        for (const id of ids) yield* fast.queue.result(Text, id, { within: "8 seconds" })
        assert.sameMembers(ran, texts)
        assert.notInclude(events.map(({ kind }) => kind), "stalled")
      })
    )
  )

  it.live(
    "lets jobs that were taken by hand be completed",
    test(({ fast, latency, slow }) =>
      Effect.gen(function*() {
        const events = yield* record(fast.queue, Text)
        const id = yield* fast.queue.enqueue(Text, "x")
        yield* latency(410)
        const [job] = yield* slow.queue.take(Text, 1, { lease: 1200 })
        yield* wait(1300)
        assert.deepStrictEqual(yield* fast.queue.take(Text, 1), [])
        yield* job!.complete("done")
        assert.strictEqual(yield* fast.queue.result(Text, id, { within: "1 second" }), "done")
        assert.notInclude(events.map(({ kind }) => kind), "stalled")
      })
    )
  )

  it.live(
    "interrupts what has lost its lease, has it run elsewhere, and ends it once",
    test(({ fast, latency, slow }) =>
      Effect.gen(function*() {
        const events = yield* record(fast.queue, Text)
        let began = 0
        let interrupted = 0
        yield* slow.work([
          Text.handler(() =>
            Effect.andThen(Effect.sync(() => began++), Effect.never).pipe(
              Effect.onInterrupt(() => Effect.sync(() => interrupted++))
            )
          )
        ], { lease: 300 })
        const id = yield* fast.queue.enqueue(Text, "x")
        yield* becomes("it runs", Effect.sync(() => began), (times) => times === 1)
        yield* latency(1500)
        yield* fast.work([Text.handler(() => Effect.succeed("fast"))], { poll: 20 })
        assert.strictEqual(yield* fast.queue.result(Text, id, { within: "5 seconds" }), "fast")
        yield* latency(0)
        yield* becomes("it was interrupted", Effect.sync(() => began - interrupted), (running) => running === 0)
        const kinds = events.map(({ kind }) => kind)
        assert.deepStrictEqual(kinds.slice(0, 3), ["queued", "active", "stalled"])
        assert.strictEqual(kinds.indexOf("completed"), kinds.length - 1)
      })
    )
  )
})

describe("Latency", () => {
  it.live(
    "lets no limit pass more than it promises, and whoever waits for a turn gives up in time",
    test(({ fast, latency, slow }) =>
      Effect.gen(function*() {
        yield* latency(100)
        const quota = RateLimit.slidingWindow({ name: "quota", limit: 8, window: "1 hour" })
        const checks = Array.from({ length: 30 }, (_, i) => (i % 2 === 0 ? slow : fast).limiter.check(quota, "ada"))
        const verdicts = yield* Effect.all(checks, { concurrency: "unbounded" })
        assert.lengthOf(verdicts.filter(({ allowed }) => allowed), 8)
        const smooth = RateLimit.gcra({ name: "smooth", limit: 20, period: "1 second", burst: 1 })
        let ran = 0
        const turns = Effect.forEach(
          Array.from({ length: 10 }),
          () => Effect.result(slow.limiter.limit(smooth, "ada", { wait: "300 millis" })(Effect.sync(() => ran++))),
          { concurrency: "unbounded" }
        )
        const results = yield* turns
        assert.lengthOf(results.filter(({ _tag }) => _tag === "Success"), ran)
        assert.isAbove(ran, 1)
        assert.isBelow(ran, 10)
      })
    )
  )

  it.live(
    "delays messages, and neither loses nor reorders any, from the acknowledged subscription on",
    test(({ fast, latency, slow }) =>
      Effect.gen(function*() {
        const News = Channel.make("news", Schema.Finite)
        yield* latency(150)
        const stream = yield* slow.pubsub.eventsScoped(News)
        const own = yield* Effect.forEach([0, 1, 2], (i) => slow.pubsub.publish(News, i), { concurrency: 3 })
        assert.deepStrictEqual(own, [1, 1, 1])
        yield* fast.pubsub.publishAll(News, Array.from({ length: 97 }, (_, i) => i + 3))
        const events = yield* Stream.runCollect(Stream.take(stream, 100))
        assert.deepStrictEqual(
          events.map((event) => event._tag === "Message" && event.message),
          Array.from(events.keys())
        )
      })
    )
  )
})
