/** A program's wall clock is an hour off, or is set while it runs: leases, delays and deadlines stay what they were. */
import { assert, describe, it } from "@effect/vitest"
import { Context, Duration, Effect, Exit, Fiber, Layer, Option, Schema, Scope, Stream } from "effect"
import { Health } from "../../src/Health.ts"
import * as Job from "../../src/Job.ts"
import type { JobEvent } from "../../src/JobInfo.ts"
import * as RateLimit from "../../src/RateLimit.ts"
import { RedisClient } from "../../src/RedisClient.ts"
import { Errand } from "../support/errandJob.ts"
import { NodeProcess } from "../support/processes.ts"
import { becomes, type Program, startProgram } from "../support/program.ts"
import { wait } from "../support/queuesOnRedis.ts"
import { hourMillis, rightTime, setClock } from "../support/setClock.ts"
import { sharedRedisUrl, uniqueNamespace } from "../support/sharedRedis.ts"

const Text = Job.make("text", {
  payload: Schema.String,
  success: Schema.String,
  error: Schema.String,
  attempts: 3,
  backoff: { kind: "fixed", delay: 40 }
})

/** Two programs on one namespace; `millis` is by how much the clock is about to be off. */
const off = <A, E>(
  run: (one: Program, other: Program, millis: number) => Effect.Effect<A, E, Scope.Scope>
) =>
(hours: number) =>
  Effect.scoped(Effect.gen(function*() {
    const settings = { url: sharedRedisUrl(), namespace: uniqueNamespace() }
    return yield* run(yield* startProgram(settings), yield* startProgram(settings), hours * hourMillis)
  }))

/** How long it took, in monotonic milliseconds. */
const timed = <A, E, R>(self: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const start = performance.now()
    return Effect.map(self, (value) => ({ value, millis: performance.now() - start }))
  })

describe("A clock that is set by hours", () => {
  it.live.each([-1, 1])(
    "neither takes a lock from its holder nor gives it to another (%s h)",
    off((one, other, millis) =>
      Effect.gen(function*() {
        const holder = yield* Scope.make()
        const lease = yield* Scope.provide(one.locks.acquire("lock", { ttl: "100 millis" }), holder)
        yield* setClock(millis)
        yield* Effect.raceFirst(lease.lost, wait(180))
        const refusal = yield* timed(Effect.flip(other.locks.withLock("lock", { wait: "50 millis" })(Effect.void)))
        assert.include(refusal.value, { _tag: "LockTimeout" })
        assert.isAtLeast(refusal.millis, 49)
        const status = Option.getOrThrow(yield* other.locks.inspect("lock"))
        assert.isBelow(Duration.toMillis(status.heldFor), 10_000)
        assert.isAtMost(Duration.toMillis(status.remaining), 100)
        const waiting = yield* Effect.forkChild(other.locks.withLock("lock")(({ token }) => Effect.succeed(token)))
        yield* becomes("it waits", one.locks.inspect("lock"), Option.exists(({ waiters }) => waiters === 1))
        yield* Scope.close(holder, Exit.void)
        assert.isAbove(yield* Fiber.join(waiting), lease.token)
      })
    )
  )

  it.live.each([-1, 1])(
    "lets a limit pass no more, and no later (%s h)",
    off((one, other, millis) =>
      Effect.gen(function*() {
        const limits = [
          RateLimit.fixedWindow({ name: "window", limit: 2, window: "1 hour" }),
          RateLimit.gcra({ name: "smooth", limit: 3600, period: "1 hour", burst: 2 })
        ]
        yield* one.limiter.check(limits, "ada")
        yield* setClock(millis)
        assert.include(yield* other.limiter.check(limits, "ada"), { allowed: true })
        const verdict = yield* one.limiter.check(limits, "ada")
        assert.include(verdict, { allowed: false, limit: "window" })
        assert.isAtMost(Duration.toMillis(verdict.retryAfter), hourMillis)
        assert.isAbove(Duration.toMillis(verdict.retryAfter), hourMillis - 10_000)
        const fast = RateLimit.gcra({ name: "fast", limit: 20, period: "1 second", burst: 1 })
        const turn = one.limiter.limit(fast, "ada", { wait: "1 second" })(Effect.void)
        const { millis: took } = yield* timed(Effect.all([turn, turn, turn]))
        assert.isAtLeast(took, 95)
      })
    )
  )

  it.live.each([-1, 1])(
    "has a delayed job run when it is due by the server's clock (%s h)",
    off((one, other, millis) =>
      Effect.gen(function*() {
        const started: Array<number> = []
        yield* other.work([Text.handler((text) => Effect.sync(() => (started.push(performance.now()), text)))])
        yield* setClock(millis)
        const enqueuedAt = performance.now()
        const at = yield* one.queue.enqueue(Text, "at", { at: rightTime() + 150 })
        const delayed = yield* one.queue.enqueue(Text, "delay", { delay: 150 })
        const [first, second] = (yield* one.queue.list(Text, { state: "delayed" })).jobs
        assert.closeTo(first!.dueAt!, second!.dueAt!, 100)
        for (const id of [at, delayed]) yield* one.queue.result(Text, id, { within: "5 seconds" })
        for (const time of started) assert.isAtLeast(time - enqueuedAt, 145)
      })
    )
  )

  it.live.each([-1, 1])(
    "neither ends leases nor attempts, and says of events when they were (%s h)",
    off((one, other, millis) =>
      Effect.gen(function*() {
        const events: Array<JobEvent> = []
        const stream = yield* other.queue.eventsScoped(Text)
        yield* Effect.forkScoped(Stream.runForEach(stream, (event) => Effect.sync(() => events.push(event))))
        yield* one.work([
          Text.handler((text, { attempt }) =>
            Effect.andThen(
              Effect.andThen(setClock(millis), wait(attempt === 1 ? 150 : 0)),
              attempt < 3 ? Effect.fail("again") : Effect.succeed(`${text} ${attempt}`)
            ).pipe(Effect.scoped)
          )
        ], { lease: 100 })
        const id = yield* one.queue.enqueue(Text, "x")
        assert.strictEqual(yield* other.queue.result(Text, id, { within: "5 seconds" }), "x 3")
        yield* becomes("all is told", Effect.sync(() => events.length), (many) => many === 7)
        const kinds = ["queued", "active", "retrying", "active", "retrying", "active", "completed"]
        assert.deepStrictEqual(events.map(({ kind }) => kind), kinds)
        for (const { at } of events) assert.closeTo(at, rightTime(), 10_000)
      })
    )
  )

  it.live.each([-1, 1])(
    "keeps nobody waiting for a job, or a result, for longer than asked (%s h)",
    off((one, other, millis) =>
      Effect.gen(function*() {
        const id = yield* one.queue.enqueue(Text, "x", { delay: "1 hour" })
        const taking = yield* Effect.forkChild(timed(Effect.scoped(one.queue.take(Text, 1, { wait: "150 millis" }))))
        const asking = yield* Effect.forkChild(timed(Effect.flip(one.queue.result(Text, id, { within: 150 }))))
        yield* wait(30)
        yield* setClock(millis)
        const taken = yield* Fiber.join(taking)
        assert.deepStrictEqual(taken.value, [])
        assert.include((yield* Fiber.join(asking)).value, { _tag: "ResultTimeout" })
        assert.isAtLeast(taken.millis, 145)
        const again = yield* Effect.forkChild(one.queue.take(Text, 1, { wait: "5 seconds" }))
        yield* wait(20)
        yield* setClock(0)
        yield* other.queue.enqueue(Text, "y")
        assert.deepStrictEqual((yield* Fiber.join(again)).map(({ payload }) => payload), ["y"])
      })
    )
  )

  it.live.each([-1, 1])(
    "has values expire when they would, and names jobs of their own (%s h)",
    off((one, other, millis) =>
      Effect.gen(function*() {
        yield* setClock(millis)
        yield* one.redis.set("a", "1", { ttl: "1 minute" })
        const ttl = Option.getOrThrow(yield* other.redis.ttl("a"))
        assert.closeTo(Duration.toMillis(ttl), 60_000, 5000)
        const first = yield* one.queue.enqueueAll(Text, ["a", "b"])
        yield* setClock(0)
        const second = yield* other.queue.enqueueAll(Text, ["c", "d"])
        const third = yield* one.queue.enqueueAll(Text, ["e", "f"])
        assert.strictEqual(new Set([...first, ...second, ...third]).size, 6)
        assert.deepStrictEqual((yield* one.queue.take(Text, 9)).map(({ payload }) => payload).join(""), "abcdef")
      })
    )
  )

  it.live.each([-1, 1])(
    "makes no worker pass for stuck, and no connection for slow (%s h)",
    off((one, _, millis) =>
      Effect.gen(function*() {
        const connected = Layer.succeed(RedisClient, one.client)
        const health = Context.get(yield* Layer.build(Layer.provide(Health.layer(), connected)), Health)
        yield* one.work([Text.handler(Effect.succeed)])
        const id = yield* one.queue.enqueue(Text, "x")
        yield* one.queue.result(Text, id, { within: "5 seconds" })
        yield* setClock(millis)
        const { components, status } = yield* health.check
        assert.deepStrictEqual(components["queue text"]?.reasons, [])
        assert.strictEqual(status, "healthy")
      })
    )
  )
})

describe("Workers whose clocks are hours apart", () => {
  it.live("do each job once, however long it takes", () =>
    Effect.scoped(Effect.gen(function*() {
      const namespace = uniqueNamespace()
      const { queue } = yield* startProgram({ url: sharedRedisUrl(), namespace })
      const wrongClock = new URL("../support/fixtures/wrongClock.ts", import.meta.url).href
      const start = (name: string, hours: number) =>
        Effect.tap(
          NodeProcess.start(new URL("../support/fixtures/errandProcess.ts", import.meta.url), {
            args: [name, sharedRedisUrl(), namespace, JSON.stringify({ lease: 300, concurrency: 2 })],
            env: { NODE_OPTIONS: `--import=${wrongClock}`, CLOCK_OFF_MILLIS: String(hours * hourMillis) }
          }),
          (child) => child.waitForLine("ready")
        )
      const children = yield* Effect.all([start("ahead", 1), start("behind", -1)], { concurrency: 2 })
      const slow = yield* Effect.forEach(["one", "two"], (text) => queue.enqueue(Errand, { kind: "gate", text }))
      for (const text of ["one", "two"]) {
        yield* becomes(
          `${text} runs`,
          Effect.sync(() => children.some(({ output }) => output.includes(`started ${text} `))),
          Boolean
        )
      }
      const texts = Array.from({ length: 60 }, (_, i) => `job ${i}`)
      const ids = yield* queue.enqueueAll(Errand, texts.map((text) => ({ kind: "echo", text })))
      for (const id of ids) yield* queue.result(Errand, id, { within: "5 seconds" })
      yield* wait(400)
      for (const child of children) yield* child.send("go on")
      for (const child of children) yield* child.send("go on")
      for (const id of slow) yield* queue.result(Errand, id, { within: "5 seconds" })
      const output = children.map((child) => child.output).join("\n")
      assert.lengthOf(Array.from(output.matchAll(/^started .* attempt 1 /gm)), 62)
      assert.notInclude(output, "attempt 2")
    })))
})
