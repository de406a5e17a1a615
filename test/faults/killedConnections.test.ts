/** Connections are killed again and again, or reset in the middle of a call: each service does what it promises meanwhile. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Option, Result, Schema, type Scope, Stream } from "effect"
import * as Channel from "../../src/Channel.ts"
import * as Job from "../../src/Job.ts"
import * as RateLimit from "../../src/RateLimit.ts"
import { becomes, type Program, startProgram } from "../support/program.ts"
import { Proxy } from "../support/proxy.ts"
import { wait } from "../support/queuesOnRedis.ts"
import { RedisServer } from "../support/redisServer.ts"

const Text = Job.make("text", { payload: Schema.String, success: Schema.String })
const Numbers = Channel.make("numbers", Schema.Finite)

interface Killed {
  readonly server: RedisServer
  readonly program: Program
  /** Runs `work` again and again while connections of each type are killed, every few milliseconds. */
  readonly meanwhile: (work: Effect.Effect<unknown>) => Effect.Effect<void>
}

const kills = 25

const test = <A, E>(run: (killed: Killed) => Effect.Effect<A, E, Scope.Scope>) => () =>
  Effect.scoped(Effect.gen(function*() {
    const server = yield* RedisServer.start()
    const program = yield* startProgram({ url: server.url, namespace: "killed" })
    return yield* run({
      server,
      program,
      meanwhile: (work) =>
        Effect.gen(function*() {
          let isOver = false
          const working = yield* Effect.forkChild(Effect.whileLoop({
            while: () => !isOver,
            body: () => work,
            step: () => {}
          }))
          for (let i = 0; i < kills; i++) {
            for (const type of ["normal", "pubsub"]) yield* server.cli("CLIENT", "KILL", "TYPE", type, "SKIPME", "yes")
            yield* wait(10 + i)
          }
          isOver = true
          yield* Fiber.join(working)
        })
    })
  }))

/** Expects nothing but success, or a RedisError. */
const typed = <A>(self: Effect.Effect<A, unknown>): Effect.Effect<Option.Option<A>> =>
  Effect.matchEffect(self, {
    onFailure: (error) => {
      assert.deepInclude(error, { _tag: "RedisError" })
      return Effect.succeed(Option.none<A>())
    },
    onSuccess: (value) => Effect.succeedSome(value)
  })

describe("Connections that are killed again and again", () => {
  it.live(
    "leave a lock to one holder at a time, and free afterwards",
    test(({ meanwhile, program: { locks } }) =>
      Effect.gen(function*() {
        let inside = 0
        let turns = 0
        const work = Effect.acquireUseRelease(
          Effect.sync(() => assert.strictEqual(++inside, 1, "two at a time")),
          () => Effect.andThen(wait(1), Effect.sync(() => turns++)),
          () => Effect.sync(() => inside--)
        )
        const turn = typed(locks.withLock("lock", { ttl: "1 second" })(work))
        yield* meanwhile(Effect.all([turn, turn, turn, turn], { concurrency: 4 }))
        assert.isAbove(turns, 0)
        assert.isTrue(Option.isNone(yield* locks.inspect("lock")))
      })
    )
  )

  it.live(
    "let no limit pass more than it promises",
    test(({ meanwhile, program: { limiter } }) =>
      Effect.gen(function*() {
        const quota = RateLimit.fixedWindow({ name: "quota", limit: 5000, window: "1 hour" })
        let passed = 0
        let unknown = 0
        const check = Effect.map(
          Effect.result(limiter.check(quota, "ada")),
          Result.match({
            onSuccess: ({ allowed }) => void (allowed && passed++),
            onFailure: (error) => {
              assert.include(error, { _tag: "RedisError", outcome: "Unknown" })
              unknown++
            }
          })
        )
        yield* meanwhile(Effect.all([check, check, check], { concurrency: 3 }))
        const used = 5000 - (yield* limiter.peek(quota, "ada")).remaining + 1
        assert.isAtLeast(used, passed)
        assert.isAtMost(used, passed + unknown + 1)
      })
    )
  )

  it.live(
    "keep a subscription, with gaps that are told, and what is published in order",
    test(({ meanwhile, program: { pubsub } }) =>
      Effect.gen(function*() {
        const stream = yield* pubsub.eventsScoped(Numbers)
        const seen: Array<number> = []
        let gaps = 0
        const reading = yield* Effect.forkChild(
          Stream.runForEach(
            Stream.takeUntil(stream, (event) => event._tag === "Message" && event.message === -1),
            (event) =>
              Effect.sync(() => {
                if (event._tag === "Message") seen.push(event.message)
                else if (event._tag === "Gap") gaps++
              })
          )
        )
        let next = 0
        yield* meanwhile(Effect.andThen(Effect.suspend(() => typed(pubsub.publish(Numbers, next++))), wait(1)))
        yield* becomes("it is heard again", pubsub.publish(Numbers, -1), (heard) => heard === 1)
        yield* Fiber.join(reading)
        assert.isAbove(gaps, 0)
        const heard = seen.slice(0, -1)
        assert.deepStrictEqual(heard, [...new Set(heard)].toSorted((a, b) => a - b))
      })
    )
  )

  it.live(
    "have each message that was missed told of before the next one",
    test(({ program: { pubsub }, server }) =>
      Effect.gen(function*() {
        const stream = yield* pubsub.eventsScoped(Numbers, { buffer: { size: 1_000_000 } })
        let next = 0
        const publish = Effect.suspend(() => pubsub.publishAll(Numbers, Array.from({ length: 100 }, () => next++)))
        const publishing = yield* Effect.forkChild(Effect.forever(publish))
        for (let i = 0; i < 10; i++) {
          yield* wait(30)
          yield* server.cli("CLIENT", "KILL", "TYPE", "pubsub")
        }
        yield* Fiber.interrupt(publishing)
        yield* becomes("it is heard again", pubsub.publish(Numbers, 1e9), (heard) => heard === 1)
        let last = -1
        let gaps = 0
        let isTold = false
        yield* Stream.runDrain(Stream.takeUntil(stream, (event) => {
          if (event._tag === "Gap") {
            isTold = true
            gaps++
          } else if (event._tag === "Message") {
            if (event.message !== last + 1) assert.isTrue(isTold, `from ${last} to ${event.message} without a gap`)
            last = event.message
            isTold = false
          }
          return last === 1e9
        }))
        assert.isAbove(gaps, 0)
      })
    )
  )

  it.live(
    "cost no job, and no wake-up for longer than a poll",
    test(({ meanwhile, program: { queue, work } }) =>
      Effect.gen(function*() {
        const runs = new Map<string, number>()
        yield* work([
          Text.handler((text) => Effect.sync(() => (runs.set(text, (runs.get(text) ?? 0) + 1), text)))
        ], { poll: 50 })
        const stored: Array<string> = []
        let next = 0
        yield* meanwhile(Effect.gen(function*() {
          const text = `job ${next++}`
          const id = yield* typed(queue.enqueue(Text, text))
          if (Option.isSome(id)) stored.push(text)
          yield* typed(queue.counts(Text))
          yield* wait(1)
        }))
        assert.isAbove(stored.length, 0)
        yield* becomes("all have run", Effect.sync(() => runs.size), () => stored.every((text) => runs.has(text)))
        yield* becomes("all are done", queue.counts(Text), (counts) => counts.waiting + counts.active === 0)
        assert.include(yield* queue.counts(Text), { failed: 0 })
        assert.deepStrictEqual(Array.from(runs.values()).filter((times) => times !== 1), [])
      })
    )
  )
})

describe("A reset in the middle of publishAll", () => {
  it.live.each(["requests", "replies"] as const)(
    "tells that it may have published, and publishes the first of them, each once (%s)",
    (direction) =>
      Effect.scoped(Effect.gen(function*() {
        const server = yield* RedisServer.start()
        const proxy = yield* Proxy.start(server)
        const near = yield* startProgram({ url: proxy.url, namespace: "killed" })
        const far = yield* startProgram({ url: server.url, namespace: "killed" })
        const all = Array.from({ length: 5000 }, (_, i) => i)
        for (const bytes of direction === "requests" ? [10, 4000, 150_000] : [1, 100, 15_000]) {
          const stream = yield* far.pubsub.subscribeScoped(Numbers, { buffer: { size: 10_000 } })
          yield* proxy.cutAfterBytes(bytes, direction)
          const error = yield* Effect.flip(near.pubsub.publishAll(Numbers, all))
          assert.deepInclude(error, { _tag: "RedisError", reason: "connection", outcome: "Unknown" })
          // Everything that was sent has been read by then: the server has seen the connection's end.
          yield* becomes(
            "the connection is gone",
            server.clients(({ cmd }) => cmd === "publish"),
            (clients) => clients.length <= 1
          )
          yield* near.pubsub.publish(Numbers, -1)
          const heard = Array.from(yield* Stream.runCollect(Stream.takeUntil(stream, (number) => number === -1)))
          assert.deepStrictEqual(heard.slice(0, -1), all.slice(0, heard.length - 1))
          if (direction === "requests") assert.isBelow(heard.length, 5000)
        }
      }))
  )
})
