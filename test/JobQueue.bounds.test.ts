/** What a queue does at its limits: a full server, a long history, many who wait, and records of other versions. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Config, ConfigProvider, Effect, Layer, Schema } from "effect"
import { TestClock } from "effect/testing"
import * as fc from "fast-check"
import { setTimeout as sleep } from "node:timers/promises"
import { makeHolder } from "../src/internal/jobHolder.ts"
import { makeIds } from "../src/internal/jobId.ts"
import { readIds, shortened } from "../src/internal/queueIdList.ts"
import { makeMemoryEngine } from "../src/internal/queueMemory.ts"
import { readRecord } from "../src/internal/queueRecord.ts"
import { makeRedisEngine } from "../src/internal/queueRedis.ts"
import { ServerClock } from "../src/internal/serverClock.ts"
import * as Job from "../src/Job.ts"
import { JobQueue, type JobQueueOptions } from "../src/JobQueue.ts"
import { RedisClient } from "../src/RedisClient.ts"
import type { RedisSettings } from "../src/RedisConfig.ts"
import { RedisError } from "../src/RedisError.ts"
import { settings } from "./contract/jobQueue/agreement.ts"
import { freePort } from "./support/freePort.ts"
import { RedisServer } from "./support/redisServer.ts"
import { sharedRedisUrl, uniqueNamespace } from "./support/sharedRedis.ts"

const Text = Job.make("text", { payload: Schema.String, success: Schema.String })

const texts = (count: number) => Array.from({ length: count }, (_, i) => String(i))

const onRedis = (
  redis: RedisSettings = {},
  options: JobQueueOptions = {},
  clock: { offsetMillis: number } = { offsetMillis: 0 }
) =>
  Layer.suspend(() =>
    Layer.provideMerge(
      JobQueue.layer(options),
      RedisClient.layer({ url: sharedRedisUrl(), namespace: uniqueNamespace(), ...redis })
    ).pipe(Layer.provide(Layer.succeed(ServerClock, clock)))
  )

describe("A dead letter that another version wrote", () => {
  it.live("can be retried, and stays as it is", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const { key, use } = yield* RedisClient
      const jobs = key("queue", "{text}", "jobs")
      const id = yield* queue.enqueue(Text, "x")
      yield* use("hset", (client) => client.hset(jobs, id, "2;of the future\npayload"))
      assert.deepStrictEqual(yield* queue.take(Text, 1), [])
      assert.include(yield* queue.counts(Text), { failed: 1 })
      assert.isTrue(yield* queue.retry(Text, id))
      assert.include(yield* queue.counts(Text), { failed: 0, waiting: 1 })
      assert.strictEqual(yield* use("hget", (client) => client.hget(jobs, id)), "2;of the future\npayload")
    }).pipe(Effect.scoped, Effect.provide(onRedis())))

  it("is no record when its settings are none", () => {
    assert.isDefined(readRecord("1;;;;5;0;;;{}\n\"x\""))
    for (const meta of ["null", "7", "\"a\""]) assert.isUndefined(readRecord(`1;;;;5;0;;;${meta}\n"x"`))
  })
})

describe("Taking a job", () => {
  it.live("looks behind any number of entries whose jobs have gone", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      for (let i = 0; i < 3; i++) {
        const ids = yield* queue.enqueueAll(Text, texts(1000))
        yield* Effect.forEach(ids, (id) => queue.remove(Text, id), { concurrency: 100, discard: true })
      }
      yield* queue.enqueue(Text, "here")
      assert.deepStrictEqual((yield* queue.take(Text, 1)).map(({ payload }) => payload), ["here"])
    }).pipe(Effect.scoped, Effect.provide(onRedis())))
})

describe("A full server", () => {
  it.live("takes no jobs, but keeps leases and takes reports, so that it can be worked empty", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      yield* Effect.gen(function*() {
        const queue = yield* JobQueue
        yield* queue.enqueueAll(Text, ["a", "b", "c"])
        const [a, b] = yield* queue.take(Text, 2, { lease: "600 millis" })
        yield* server.cli("CONFIG", "SET", "maxmemory", "1")
        assert.include(yield* Effect.flip(queue.enqueue(Text, "d")), { reason: "out-of-memory", outcome: "Rejected" })
        yield* Effect.promise(() => sleep(700))
        const [c] = yield* queue.take(Text, 1)
        for (const job of [a, b, c]) yield* job!.complete("done")
        assert.include(yield* queue.counts(Text), { waiting: 0, active: 0, finished: 3 })
      }).pipe(Effect.provide(onRedis({ url: server.url })))
    }).pipe(Effect.scoped))
})

describe("History", () => {
  it.live("is forgotten as fast when jobs ended one by one", () => {
    const clock = { offsetMillis: 0 }
    return Effect.gen(function*() {
      const queue = yield* JobQueue
      const ids = yield* queue.enqueueAll(Text, texts(900), { delay: "1 day" })
      yield* Effect.forEach(ids, (id) => queue.cancel(Text, id), { concurrency: 100, discard: true })
      assert.include(yield* queue.counts(Text), { finished: 900 })
      clock.offsetMillis += 3_700_000
      yield* queue.take(Text, 1)
      assert.include(yield* queue.counts(Text), { finished: 400 })
      yield* queue.take(Text, 1)
      assert.include(yield* queue.counts(Text), { finished: 0 })
    }).pipe(Effect.scoped, Effect.provide(onRedis({}, {}, clock)))
  })
})

describe("An inbox", () => {
  it.live("hands each letter to each listener of its queue once, however many there are", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      const { inbox } = yield* makeRedisEngine(client, settings)
      const seen: Array<string> = []
      for (const name of ["a", "b", "c"]) {
        for (const queue of ["x", "y"]) {
          yield* inbox.listen(queue, (letter) => seen.push(`${name} ${letter.kind} ${queue}`))
        }
      }
      for (const queue of ["x", "y", "z"]) {
        yield* client.use("publish", (redis) => redis.publish(inbox.addressOf(queue), `w${queue}\0me 1 2 3`))
      }
      while (seen.length < 6) yield* Effect.sleep(1)
      yield* client.use("ping", (redis) => redis.ping())
      assert.deepStrictEqual(seen, ["a wake x", "b wake x", "c wake x", "a wake y", "b wake y", "c wake y"])
    }).pipe(Effect.scoped, Effect.provide(onRedis())))
})

describe("Enqueueing while the server is away", () => {
  it.live("fails for many at once as soon as for a few", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const { use } = yield* RedisClient
      const ping = Effect.exit(use("ping", (client) => client.ping()))
      let pinged = 0
      const twoDeadlines = Effect.repeat(Effect.tap(ping, () => Effect.sync(() => pinged++)), { times: 1 })
      const errors = yield* Effect.forEach(texts(5000), (text, i) =>
        Effect.tap(Effect.flip(queue.enqueue(Text, text)), () =>
          i === 0 ? Effect.forkScoped(twoDeadlines) : Effect.void), {
        concurrency: "unbounded"
      })
      // The first one went alone. All others wait for it, and then for themselves, at most.
      assert.isBelow(pinged, 2)
      assert.isTrue(errors.every((error) =>
        error instanceof RedisError && error.outcome === "NotSent"
      ))
    }).pipe(
      Effect.scoped,
      Effect.provide(Layer.unwrap(Effect.map(Effect.promise(freePort), (port) =>
        Layer.provideMerge(
          JobQueue.layer(),
          RedisClient.layer({ port, connect: "background", commandTimeout: "60 millis" })
        ))))
    ))
})

describe("A holder that cannot reach its queue", () => {
  const lateHolder = (leaseMillis: number) =>
    Effect.gen(function*() {
      const store = makeMemoryEngine(settings).open({ queue: "q", shared: false })
      let away = false
      const ends: Array<string> = []
      const gone = new RedisError({ command: "step", reason: "connection", outcome: "NotSent", detail: "away" })
      const holder = makeHolder(
        { ...store, step: (request) => away ? Effect.fail(gone) : store.step(request) },
        "inbox",
        leaseMillis,
        () => ({ kind }) => ends.push(kind)
      )
      const step = holder.step(1, 0, 0)
      yield* Effect.forkScoped(holder.keep(Effect.ignore(step)), { startImmediately: true })
      const record = { priority: 5, lifo: false, enqueuedAt: 0, tenant: undefined, name: "", meta: {}, payload: "1" }
      yield* store.enqueue([{ id: "a", idIsNew: false, due: undefined, record }])
      return {
        ends,
        step,
        leave: Effect.sync(() => {
          away = true
        })
      }
    })

  it.effect("gives its jobs up when their leases pass, and not at the next beat", () =>
    Effect.gen(function*() {
      const { ends, leave, step } = yield* lateHolder(9000)
      yield* TestClock.adjust(1000)
      yield* step
      yield* leave
      yield* TestClock.adjust(8999)
      assert.deepStrictEqual(ends, [])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(ends, ["lost"])
    }).pipe(Effect.scoped))

  it.effect("measures leases by a clock that nobody sets", () =>
    Effect.gen(function*() {
      const clock = yield* Clock.Clock
      let ahead = 0
      const moved = Effect.provideService(Clock.Clock, {
        currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe() + ahead,
        currentTimeMillis: Effect.map(clock.currentTimeMillis, (millis) => millis + ahead),
        currentTimeNanosUnsafe: () => clock.currentTimeNanosUnsafe(),
        currentTimeNanos: clock.currentTimeNanos,
        monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
        monotonicTimeNanos: clock.monotonicTimeNanos,
        sleep: (duration) => clock.sleep(duration)
      })
      const { ends, step } = yield* moved(lateHolder(9000))
      yield* moved(step)
      ahead = 3_600_000
      yield* TestClock.adjust(3000)
      assert.deepStrictEqual(ends, [])
    }).pipe(Effect.scoped))
})

describe("Ids", () => {
  const start = Date.UTC(2026, 0, 1)

  it("are short, differ, and sort as they were made, wherever the clock goes", () => {
    const time = fc.oneof(
      fc.nat({ max: 5000 }).map((millis) => start + millis),
      fc.constantFrom(0, start - 1e9, 2.8e12)
    )
    fc.assert(fc.property(fc.array(time, { minLength: 2 }), (times) => {
      const make = makeIds()
      const ids = times.map((time) => make(time))
      for (const id of ids) assert.match(id, /^[-0-9A-Z_a-z]{14}$/)
      assert.deepStrictEqual(ids, [...new Set(ids)].toSorted())
    }))
  })

  it("sort by the second when different processes make them", () => {
    const ids = Array.from({ length: 100 }, (_, i) => makeIds()(start + i * 1000))
    assert.deepStrictEqual(ids, ids.toSorted())
  })

  it("differ when more are made than fit in a second, and do not go back in the next", () => {
    const make = makeIds()
    const ids = Array.from({ length: 64 ** 3 + 10 }, () => make(start))
    ids.push(make(start + 1000))
    assert.strictEqual(new Set(ids).size, ids.length)
    assert.isTrue(ids.every((id, i) => i === 0 || ids[i - 1]! < id))
  })
})

describe("The ids of an event", () => {
  it("are read as they were written, whether they were made together or not", () => {
    const make = makeIds()
    const text = fc.string({ unit: "grapheme", minLength: 1 }).filter((id) => !/\p{Cc}/u.test(id))
    const made = fc.array(fc.nat({ max: 2 }), { minLength: 1 }).map((times) =>
      times.map((time) => make(2e12 + 1000 * time))
    )
    fc.assert(fc.property(fc.oneof(made, fc.array(text, { minLength: 1 })), (ids) => {
      assert.deepStrictEqual(readIds(shortened(ids) || ids.join("\0")), ids)
    }))
    const together = Array.from({ length: 1000 }, () => make(3e12))
    assert.isBelow(shortened(together).length, 4100)
    assert.deepStrictEqual(readIds(shortened(together)), together)
  })
})

describe("JobQueue.layerConfig", () => {
  it.live("reads its options from the configuration, and refuses those that are out of range", () =>
    Effect.gen(function*() {
      const build = (MAX_CRASHES: string) =>
        Layer.build(
          JobQueue.layerConfig({ maxCrashes: Config.Int("MAX_CRASHES") }).pipe(
            Layer.provide(RedisClient.layer({ url: sharedRedisUrl(), namespace: uniqueNamespace() })),
            Layer.provide(ConfigProvider.layer(ConfigProvider.fromUnknown({ MAX_CRASHES })))
          )
        ).pipe(Effect.scoped)
      yield* build("2")
      const refused = yield* Effect.flip(build("0"))
      assert.deepInclude(refused, { _tag: "InvalidInput", input: "maxCrashes" })
    }))
})
