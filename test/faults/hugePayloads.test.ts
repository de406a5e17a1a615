/** The largest that services take, on a connection on which it takes long: whole, in order, and harming nothing beside it. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Option, Schema, type Scope, Stream } from "effect"
import * as Channel from "../../src/Channel.ts"
import { maxPayloadBytes } from "../../src/internal/codec.ts"
import * as Job from "../../src/Job.ts"
import { becomes, type Program, startProgram } from "../support/program.ts"
import { Proxy } from "../support/proxy.ts"
import { RedisServer } from "../support/redisServer.ts"

const Text = Job.make("text", { payload: Schema.String, success: Schema.String })
const News = Channel.make("news", Schema.String)

/** As long as may be, in JSON: with its quotes. */
const longest = (letter: string) => letter.repeat(maxPayloadBytes - 2)

const test =
  <A, E>(run: (near: Program, far: Program, server: RedisServer) => Effect.Effect<A, E, Scope.Scope>) => () =>
    Effect.scoped(Effect.gen(function*() {
      const server = yield* RedisServer.start()
      const proxy = yield* Proxy.start(server)
      const near = yield* startProgram({ url: proxy.url, namespace: "huge", commandTimeout: "2 seconds" })
      const far = yield* startProgram({ url: server.url, namespace: "huge" })
      // About 100 MiB a second.
      yield* proxy.delay(10)
      return yield* run(near, far, server)
    }))

/** Asks for something small, again and again, while `work` runs: its answers come, each its own. */
const beside = <A, E>({ client }: Program, work: Effect.Effect<A, E>) =>
  Effect.gen(function*() {
    let answered = 0
    const ask = Effect.gen(function*() {
      const text = `small ${answered}`
      assert.strictEqual(yield* client.use("echo", (redis) => redis.echo(text)), text)
      answered++
    })
    const asking = yield* Effect.forkChild(Effect.forever(ask))
    const value = yield* work
    yield* becomes("it is answered", Effect.sync(() => answered), (count) => count > 0)
    assert.isUndefined(asking.pollUnsafe())
    yield* Fiber.interrupt(asking)
    return value
  })

describe("Payloads as large as may be, on a slow connection", () => {
  it.live(
    "are stored and read as values and guarded texts",
    test((near) =>
      Effect.gen(function*() {
        const text = "v".repeat(maxPayloadBytes)
        yield* beside(near, near.redis.set("value", text))
        assert.isTrue(Option.contains(yield* beside(near, near.redis.get("value")), text))
        yield* near.locks.withLock("lock")((lease) => beside(near, near.locks.guardedSet(lease, "text", text)))
        assert.isTrue(Option.contains(yield* near.locks.guardedGet("text"), text))
      })
    )
  )

  it.live(
    "are published to slow and fast subscribers alike",
    test((near, far) =>
      Effect.gen(function*() {
        const slow = yield* near.pubsub.eventsScoped(News)
        const fast = yield* far.pubsub.eventsScoped(News)
        const texts = Array.from("abcdefgh", longest)
        yield* beside(near, near.pubsub.publishAll(News, texts))
        yield* far.pubsub.publish(News, "last")
        for (const stream of [slow, fast]) {
          const events = yield* Stream.runCollect(Stream.take(stream, texts.length + 1))
          const heard = Array.from(events, (event) => event._tag === "Message" ? event.message : event._tag)
          assert.isTrue(heard.every((text, i) => text === (texts[i] ?? "last")))
        }
      })
    )
  )

  it.live(
    "are enqueued, run and reported, ones together too",
    test((near, far) =>
      Effect.gen(function*() {
        const texts = Array.from("abcdefgh", longest)
        const ids = yield* beside(near, near.queue.enqueueAll(Text, texts))
        yield* near.work([Text.handler((text) => Effect.succeed(text.toUpperCase()))], { concurrency: 4 })
        const results = yield* beside(
          near,
          Effect.forEach(ids, (id) => near.queue.result(Text, id, { within: "8 seconds" }), { concurrency: 8 })
        )
        assert.isTrue(results.every((text, i) => text === texts[i]!.toUpperCase()))
        assert.include(yield* far.queue.counts(Text), { waiting: 0, active: 0, failed: 0, finished: 8 })
      })
    )
  )

  it.live(
    "are taken by hand, and listed, and given back",
    test((near, far) =>
      Effect.gen(function*() {
        const texts = Array.from("abcdefgh", longest)
        yield* far.queue.enqueueAll(Text, texts)
        const { jobs: listed } = yield* beside(near, near.queue.list(Text, { state: "waiting" }))
        assert.isTrue(listed.every(({ payload }, i) => payload === texts[i]))
        yield* Effect.scoped(Effect.gen(function*() {
          const taken = yield* near.queue.take(Text, 8)
          assert.isTrue(taken.length > 0 && taken.every(({ payload }, i) => payload === texts[i]))
          yield* taken[0]!.complete(taken[0]!.payload)
        }))
        assert.include(yield* far.queue.counts(Text), { waiting: 7, active: 0, finished: 1 })
      })
    )
  )
})
