/** The server is killed and started again, with all of its data, with those of a while ago, or with none. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Schema } from "effect"
import { readdir, stat, truncate } from "node:fs/promises"
import { join } from "node:path"
import * as Job from "../../src/Job.ts"
import { eventually, wait } from "../support/queuesOnRedis.ts"
import { RedisServer } from "../support/redisServer.ts"
import { side } from "../support/twoSides.ts"

const Text = Job.make("text", { payload: Schema.String, success: Schema.String })

const numbered = (name: string, count: number) => Array.from({ length: count }, (_, i) => `${name} ${i}`)

describe("A server that has written each command down before it was killed", () => {
  it.live("has all jobs that were acknowledged until then, and hands out none that was acknowledged as done", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start({ persistence: "aof-always" })
      const clock = { offsetMillis: 0 }
      const { queue } = yield* side({ url: server.url, clock })
      const enqueued = new Map<string, string>()
      const done = new Set<string>()
      const produce = Effect.gen(function*() {
        const text = `job ${enqueued.size}`
        enqueued.set(yield* queue.enqueue(Text, text), text)
      })
      const consume = Effect.scoped(Effect.gen(function*() {
        for (const job of yield* queue.take(Text, 3, { wait: 1000 })) {
          yield* job.complete(job.payload)
          done.add(job.id)
        }
      }))
      // What fails has not been acknowledged.
      const working = yield* Effect.forkChild(
        Effect.forEach([produce, produce, produce, consume, consume], (one) => Effect.forever(Effect.ignore(one)), {
          concurrency: "unbounded"
        })
      )
      for (let round = 1; round <= 3; round++) {
        yield* eventually("much is done", Effect.sync(() => done.size > 100 * round))
        yield* server.restart
      }
      yield* Fiber.interrupt(working)
      clock.offsetMillis += 60_000
      assert.include(yield* queue.counts(Text), { failed: 0 })
      const left = new Set<string>()
      for (let taken = 1; taken > 0;) {
        taken = yield* Effect.scoped(Effect.gen(function*() {
          const jobs = yield* queue.take(Text, 500)
          for (const job of jobs) {
            assert.isFalse(left.has(job.id), "a job is handed out twice")
            left.add(job.id)
          }
          yield* Effect.forEach(jobs, (job) => job.complete(job.payload), { concurrency: "unbounded" })
          return jobs.length
        }))
      }
      assert.deepStrictEqual(Array.from(done).filter((id) => left.has(id)), [])
      yield* Effect.forEach(
        enqueued,
        ([id, text]) =>
          Effect.map(queue.result(Text, id, { within: "1 second" }), (result) => assert.strictEqual(result, text)),
        { concurrency: 100 }
      )
    }).pipe(Effect.scoped))
})

describe("A server that has lost the last second", () => {
  /** The file that commands are appended to. */
  const appendOnlyFile = async ({ directory }: RedisServer) => {
    const names = await readdir(directory, { recursive: true })
    return join(directory, names.find((name) => /\.incr\.aof$|^appendonly\.aof$/.test(name))!)
  }

  /** Kills the server and starts it again as it was at `mark`: a machine that fails loses what was not on its disk. */
  const lossy = Effect.gen(function*() {
    const server = yield* RedisServer.start({ persistence: "aof-everysec" })
    const isWritten = Effect.map(
      server.cli("INFO", "persistence"),
      (info) => String(info).includes("aof_buffer_length:0\r")
    )
    const mark = Effect.gen(function*() {
      yield* eventually("all is written", isWritten)
      const file = yield* Effect.promise(() => appendOnlyFile(server))
      const { size } = yield* Effect.promise(() => stat(file))
      return { file, size }
    })
    const restartAt = ({ file, size }: Effect.Success<typeof mark>) =>
      Effect.gen(function*() {
        yield* server.kill()
        // With half a command behind it, as it may well be.
        yield* Effect.promise(() => truncate(file, size + 7))
        yield* server.restart
      })
    return { server, mark, restartAt }
  })

  it.live("has all older jobs, does again what was done in that second, and takes ids of that second anew", () =>
    Effect.gen(function*() {
      const { mark, restartAt, server } = yield* lossy
      const clock = { offsetMillis: 0 }
      const { queue, work } = yield* side({ url: server.url, clock })
      const older = yield* queue.enqueueAll(Text, numbered("older", 10))
      const finished = yield* queue.take(Text, 3)
      for (const job of finished) yield* job.complete("before")
      const [held] = yield* queue.take(Text, 1)
      const durable = yield* mark

      yield* held!.complete("in the lost second")
      const [last] = yield* queue.take(Text, 1)
      yield* last!.complete("in the lost second")
      const newer = yield* queue.enqueueAll(Text, numbered("newer", 5), { ids: numbered("newer", 5) })
      yield* restartAt(durable)

      // The lease of what is held again is still there.
      clock.offsetMillis += 60_000
      const started: Array<string> = []
      yield* work([Text.handler((text) => Effect.sync(() => (started.push(text), "after")))])
      const results = yield* Effect.forEach(older, (id) => queue.result(Text, id, { within: "5 seconds" }))
      assert.deepStrictEqual(results, [...finished.map(() => "before"), ...older.slice(3).map(() => "after")])
      assert.sameMembers(started, numbered("older", 10).slice(3))
      for (const id of newer) {
        const error = yield* Effect.flip(queue.result(Text, id, { within: "5 seconds" }))
        assert.strictEqual(error._tag, "ResultExpired")
      }
      assert.deepStrictEqual(yield* queue.enqueueAll(Text, numbered("again", 5), { ids: newer }), newer)
      for (const id of newer) {
        assert.strictEqual(yield* queue.result(Text, id, { within: "5 seconds" }), "after")
      }
      assert.include(yield* queue.counts(Text), { waiting: 0, active: 0, failed: 0, finished: 15 })
    }).pipe(Effect.scoped))

  it.live("gives larger fencing tokens than before, and does not listen to holders of that second", () =>
    Effect.gen(function*() {
      const { mark, restartAt, server } = yield* lossy
      const { queue } = yield* side({ url: server.url })
      const id = yield* queue.enqueue(Text, "x")
      const durable = yield* mark
      const [before] = yield* queue.take(Text, 1)
      yield* restartAt(durable)
      const [after] = yield* queue.take(Text, 1)
      assert.include(after, { id, attempt: 1 })
      assert.strictEqual((yield* Effect.flip(before!.complete("before")))._tag, "LeaseLost")
      yield* after!.complete("after")
      assert.strictEqual(yield* queue.result(Text, id, { within: "1 second" }), "after")
      assert.isAbove(after!.fencingToken, before!.fencingToken)
    }).pipe(Effect.scoped))
})

describe("A server that has lost everything", () => {
  it.live("is used on by workers and producers, and those who wait for a result are told that it is gone", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      const client = yield* side({ url: server.url })
      const { queue } = client
      const gate = yield* Deferred.make<void>()
      const started: Array<string> = []
      yield* client.work([
        Text.handler((text) =>
          Effect.gen(function*() {
            started.push(text)
            if (text === "gate") yield* Deferred.await(gate)
            return text
          })
        )
      ], { concurrency: 2, lease: "1 minute" })
      const running = yield* queue.enqueue(Text, "gate", { id: "one" })
      const delayed = yield* queue.enqueue(Text, "delayed", { id: "two", delay: "1 hour" })
      yield* eventually("it runs", Effect.sync(() => started.length === 1))
      const waiting = yield* Effect.forEach(
        [running, delayed],
        (id) => Effect.forkChild(Effect.flip(queue.result(Text, id, { within: "5 seconds" })))
      )
      yield* wait(20)
      yield* server.restart

      for (const fiber of waiting) assert.strictEqual((yield* Fiber.join(fiber))._tag, "ResultExpired")
      const gone = yield* Effect.flip(queue.result(Text, delayed, { within: "5 seconds" }))
      assert.strictEqual(gone._tag, "ResultExpired")
      assert.include(yield* queue.counts(Text), { waiting: 0, delayed: 0, active: 0, finished: 0 })
      // The worker is woken up by what comes now, under ids of before, too.
      for (const id of ["one", "two", "three"]) {
        assert.strictEqual(yield* queue.enqueue(Text, `new ${id}`, { id }), id)
        assert.strictEqual(yield* queue.result(Text, id, { within: "5 seconds" }), `new ${id}`)
      }
      // What ran all the while ends, and nobody takes its result for that of the new job.
      yield* Deferred.succeed(gate, undefined)
      const last = yield* queue.enqueue(Text, "last")
      assert.strictEqual(yield* queue.result(Text, last, { within: "5 seconds" }), "last")
      assert.strictEqual(yield* queue.result(Text, "one", { within: "1 second" }), "new one")
      assert.deepStrictEqual(started, ["gate", "new one", "new two", "new three", "last"])
      assert.include(yield* queue.counts(Text), { waiting: 0, active: 0, failed: 0, finished: 4 })
    }).pipe(Effect.scoped))
})
