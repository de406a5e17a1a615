/** Whatever is under way is interrupted, at any moment: nothing stays held, lost, subscribed or reserved. */
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Fiber, Layer, Schema, type Scope, Stream } from "effect"
import * as Channel from "../../src/Channel.ts"
import { Health } from "../../src/Health.ts"
import * as Job from "../../src/Job.ts"
import * as RateLimit from "../../src/RateLimit.ts"
import { RedisClient } from "../../src/RedisClient.ts"
import * as RedisScript from "../../src/RedisScript.ts"
import { becomes, type Program, startProgram } from "../support/program.ts"
import { Proxy } from "../support/proxy.ts"
import { wait } from "../support/queuesOnRedis.ts"
import { RedisServer } from "../support/redisServer.ts"

const Text = Job.make("text", { payload: Schema.String, success: Schema.String, error: Schema.String })

interface Slow {
  readonly server: RedisServer
  /** Three milliseconds away in each direction. */
  readonly near: Program
  /** Beside the server. */
  readonly far: Program
}

const test = <A, E>(run: (slow: Slow) => Effect.Effect<A, E, Scope.Scope>) => () =>
  Effect.scoped(Effect.gen(function*() {
    const server = yield* RedisServer.start()
    const proxy = yield* Proxy.start(server)
    const near = yield* startProgram({ url: proxy.url, namespace: "torn" })
    const far = yield* startProgram({ url: server.url, namespace: "torn" })
    yield* proxy.delay(3)
    return yield* run({ server, near, far })
  }))

/** From less than the first reply takes to more than all of them take. */
const moments = Array.from({ length: 31 }, (_, millis) => millis)

/** Runs what `attempt` yields again and again, five at a time, and interrupts it a little later each time. */
const torn = <A, E, R>(attempt: (i: number) => Effect.Effect<A, E, R>) =>
  Effect.forEach([...moments, ...moments.toReversed()], (millis, i) =>
    Effect.gen(function*() {
      const fiber = yield* Effect.forkChild(attempt(i))
      yield* wait(millis)
      yield* Fiber.interrupt(fiber)
      return fiber.pollUnsafe()?._tag === "Success"
    }), { concurrency: 5 })

const connections = (server: RedisServer) => Effect.map(server.clients(), ({ length }) => length)

describe("Interruption at any moment", () => {
  it.live(
    "leaves no lock held, and nobody in its line",
    test(({ far, near, server }) =>
      Effect.gen(function*() {
        let inside = 0
        const work = Effect.acquireUseRelease(
          Effect.sync(() => assert.strictEqual(++inside, 1, "two at a time")),
          () => wait(2),
          () => Effect.sync(() => inside--)
        )
        yield* torn((i) =>
          i % 2 === 0
            ? near.locks.withLock("one")(work)
            : Effect.scoped(
              Effect.flatMap(
                near.locks.acquire("one"),
                (lease) => Effect.andThen(Effect.exit(lease.extend()), lease.run(work))
              )
            )
        )
        yield* torn(() => Effect.scoped(Effect.andThen(near.locks.tryAcquire("two"), Effect.never)))
        for (const key of ["one", "two"]) {
          const token = yield* far.locks.withLock(key, { wait: "1 second" })((lease) => Effect.succeed(lease.token))
          yield* torn((i) => near.locks.guardedSet({ key, token }, "text", String(i)))
          yield* near.locks.guardedSet({ key, token }, "text", "last")
          assert.deepStrictEqual(yield* server.cli("KEYS", `torn:lock:{${key}}:*`), [])
        }
        assert.strictEqual(inside, 0)
      })
    )
  )

  it.live(
    "enqueues a job or does not, and gives back what was taken",
    test(({ far, near, server }) =>
      Effect.gen(function*() {
        const stored = yield* torn((i) => near.queue.enqueue(Text, `job ${i}`, { id: String(i) }))
        const batches = yield* torn((i) => near.queue.enqueueAll(Text, ["x", "y"], { ids: [`x${i}`, `y${i}`] }))
        // On the same connection, behind what was sent before it was interrupted.
        const { waiting } = yield* near.queue.counts(Text)
        assert.isAtLeast(waiting, stored.filter(Boolean).length + 2 * batches.filter(Boolean).length)
        for (let i = 0; i < batches.length; i++) {
          const [x, y] = yield* Effect.all([far.queue.get(Text, `x${i}`), far.queue.get(Text, `y${i}`)])
          assert.strictEqual(x === undefined, y === undefined)
        }

        yield* torn((i) =>
          Effect.scoped(Effect.gen(function*() {
            const jobs = yield* near.queue.take(Text, 3, i % 2 === 0 ? {} : { wait: "1 second" })
            yield* jobs[0]!.release()
            yield* jobs[1]!.release({ delay: 1 })
            return yield* Effect.never
          }))
        )
        yield* becomes("all were given back", far.queue.counts(Text), ({ active }) => active === 0)
        const completed: Array<string> = []
        yield* torn(() =>
          Effect.scoped(Effect.gen(function*() {
            const [job] = yield* near.queue.take(Text, 1)
            yield* job!.complete("done")
            completed.push(job!.id)
          }))
        )
        yield* becomes("all were given back", far.queue.counts(Text), ({ active }) => active === 0)
        for (const id of completed) assert.strictEqual((yield* far.queue.get(Text, id))?.state, "completed")
        const left = yield* far.queue.counts(Text)
        assert.strictEqual(left.waiting + left.delayed + left.finished, waiting)

        yield* far.work([Text.handler(Effect.succeed)])
        yield* becomes("all are done", far.queue.counts(Text), ({ finished }) => finished === waiting)
        // The worker that rests, and nobody else.
        yield* becomes("nobody waits", server.cli("ZCARD", "torn:queue:{text}:sleepers"), (count) => count === 1)
      })
    )
  )

  it.live(
    "closes workers, which leave their jobs to others",
    test(({ far, near, server }) =>
      Effect.gen(function*() {
        const ids = yield* far.queue.enqueueAll(Text, Array.from({ length: 400 }, (_, i) => `job ${i}`))
        yield* torn((i) =>
          Effect.scoped(Effect.andThen(
            near.work([Text.handler((text) => Effect.as(i % 3 === 0 ? Effect.never : wait(i % 3), text))], {
              concurrency: 3,
              shutdown: i % 5
            }),
            Effect.never
          ))
        )
        yield* becomes("nothing is held", far.queue.counts(Text), ({ active }) => active === 0)
        assert.strictEqual(yield* server.cli("ZCARD", "torn:queue:{text}:sleepers"), 0)
        assert.strictEqual(yield* server.cli("ZCARD", "torn:queue:{text}:leases"), 0)
        yield* far.work([Text.handler(Effect.succeed)])
        yield* becomes("all are done", far.queue.counts(Text), ({ finished }) => finished === ids.length)
        assert.include(yield* far.queue.counts(Text), { waiting: 0, delayed: 0, failed: 0 })
      })
    )
  )

  it.live(
    "of whoever looks at a queue, or changes it, does it or does not",
    test(({ far, near, server }) =>
      Effect.gen(function*() {
        const before = yield* connections(server)
        yield* far.queue.enqueueAll(Text, Array.from({ length: 90 }, String), {
          ids: Array.from({ length: 90 }, (_, i) => `id ${i}`)
        })
        const { queue } = near
        const look = (i: number): Effect.Effect<unknown, unknown> =>
          [
            queue.cancel(Text, `id ${i}`),
            queue.remove(Text, `id ${i}`),
            queue.promote(Text, `id ${i}`),
            Effect.andThen(queue.pause(Text), queue.resume(Text)),
            queue.replay(Text),
            queue.list(Text, { state: "waiting" }),
            queue.result(Text, `id ${i}`, { within: "1 second" }),
            Stream.runDrain(queue.events(Text)),
            Stream.runDrain(queue.enqueueChunks(Text, ["more"]))
          ][i % 9]!
        yield* torn(look)
        // Those that listened have left.
        yield* becomes("no connection is left", connections(server), (now) => now === before)
        yield* near.queue.resume(Text)
        const { waiting } = yield* far.queue.counts(Text)
        const listed = yield* far.queue.list(Text, { state: "waiting", limit: 500 })
        assert.strictEqual(waiting, listed.jobs.length)
        yield* far.work([Text.handler(Effect.succeed)])
        yield* becomes("all is done", far.queue.counts(Text), (counts) => counts.waiting + counts.active === 0)
        assert.strictEqual(yield* near.queue.clear(Text), 0)
      })
    )
  )

  it.live(
    "of a limited call takes its cost once or not at all, and holds up nobody behind it",
    test(({ near, far }) =>
      Effect.gen(function*() {
        const many = RateLimit.fixedWindow({ name: "many", limit: 100, window: "1 hour" })
        const few = RateLimit.gcra({ name: "few", limit: 200, period: "1 second", burst: 1 })
        let ran = 0
        const done = yield* torn(() => near.limiter.check(many, "ada"))
        yield* torn(() => near.limiter.peek(many, "ada"))
        const used = 100 - (yield* far.limiter.peek(many, "ada")).remaining + 1
        assert.isAtLeast(used, done.filter(Boolean).length)
        assert.isAtMost(used, done.length + 1)
        const turn = near.limiter.limit(few, "ada", { wait: "5 seconds" })(Effect.sync(() => ran++))
        const patient = yield* Effect.forkChild(Effect.forEach([1, 2, 3, 4, 5], () => turn))
        yield* torn(() => turn)
        yield* Fiber.join(patient)
        assert.isAtLeast(ran, 5)
        yield* torn(() => near.limiter.reset(many, "ada"))
      })
    )
  )

  it.live(
    "leaves no subscription, and no connection for one",
    test(({ far, near, server }) =>
      Effect.gen(function*() {
        const before = yield* connections(server)
        const News = Channel.make("news", Schema.String)
        const attempts = (i: number): Effect.Effect<unknown, unknown> =>
          [
            Stream.runDrain(near.pubsub.subscribe(News)),
            Effect.scoped(Effect.andThen(near.pubsub.eventsScoped(Channel.pattern("n*", Schema.String)), Effect.never)),
            Stream.runDrain(near.pubsub.subscribePattern("ne*", Schema.String)),
            near.pubsub.publish(News, "x"),
            near.pubsub.publishAll(News, ["x", "y"])
          ][i % 5]!
        yield* torn(attempts)
        yield* becomes("no connection is left", connections(server), (now) => now === before)
        assert.deepStrictEqual(yield* server.cli("PUBSUB", "CHANNELS", "*"), [])
        assert.strictEqual(yield* server.cli("PUBSUB", "NUMPAT"), 0)

        // Also while another one stays.
        yield* Effect.scoped(Effect.gen(function*() {
          const stream = yield* near.pubsub.subscribeScoped(News)
          yield* torn(attempts)
          yield* far.pubsub.publish(News, "last")
          yield* Stream.runDrain(Stream.takeUntil(stream, (message) => message === "last"))
          yield* becomes("one is left", server.cli("PUBSUB", "NUMPAT"), (count) => count === 0)
        }))
        yield* becomes("no connection is left", connections(server), (now) => now === before)
      })
    )
  )

  it.live(
    "leaves no reserved or duplicate connection, and mixes up no replies",
    test(({ near, server }) =>
      Effect.gen(function*() {
        const before = yield* connections(server)
        const { client } = near
        yield* torn((i) =>
          Effect.scoped(Effect.gen(function*() {
            if (i % 3 === 0) yield* client.duplicate()
            const reserved = yield* client.reserve
            yield* reserved.use("blpop", (redis) => redis.blpop("nothing", 1))
          }))
        )
        yield* becomes("no connection is left", connections(server), (now) => now === before)
        // As many as there may be.
        yield* Effect.scoped(Effect.all(Array.from({ length: 16 }, () => client.reserve), { concurrency: 16 }))

        const echo = RedisScript.make({
          name: "echo",
          keys: [],
          args: ["text"],
          result: Schema.String,
          lua: "return text"
        })
        const ask = (text: string): Effect.Effect<unknown, unknown> =>
          Effect.gen(function*() {
            assert.strictEqual(yield* client.script(echo, { text }), text)
            assert.strictEqual(yield* client.use("echo", (redis) => redis.echo(text)), text)
            const [first] = yield* client.pipeline((pipeline) => pipeline.echo(text).ping())
            assert.strictEqual(first?._tag === "Success" && first.success, text)
            assert.deepStrictEqual(yield* client.multi((transaction) => transaction.echo(text)), [text])
            yield* near.redis.setJson(text, Schema.String, text)
            assert.lengthOf(yield* Stream.runCollect(near.redis.scan(text)), 1)
          })
        yield* torn((i) => ask(`key-${i}`))
        yield* ask("last")
        assert.isAtMost(yield* connections(server), before)
      })
    )
  )

  it.live(
    "takes no health check from another",
    test(({ near }) =>
      Effect.gen(function*() {
        const connected = Layer.succeed(RedisClient, near.client)
        const health = Context.get(yield* Layer.build(Layer.provide(Health.layer(), connected)), Health)
        const whole = yield* Effect.forkChild(Effect.forEach(Array.from({ length: 10 }), () => health.check))
        yield* torn(() => health.check)
        for (const { components } of yield* Fiber.join(whole)) assert.deepStrictEqual(components.redis.reasons, [])
      })
    )
  )
})
