/** Jobs and locks that count only when replicas have them. */
import { assert, describe, it } from "@effect/vitest"
import { Context, type Duration, Effect, Fiber, Layer, Schema } from "effect"
import { DistributedLock } from "../src/DistributedLock.ts"
import * as Job from "../src/Job.ts"
import { JobQueue } from "../src/JobQueue.ts"
import { RedisClient } from "../src/RedisClient.ts"
import type { RedisError } from "../src/RedisError.ts"
import { RedisServer } from "./support/redisServer.ts"

const Mail = Job.make("mail", { payload: Schema.String })

const offset = (field: string, of: RedisServer) =>
  Effect.map(of.cli("INFO", "replication"), (info) => new RegExp(`${field}:(\\d+)`).exec(String(info))?.[1])

/** Returns when the replica has all that the master has. */
const caughtUp = ({ master, replica }: { readonly master: RedisServer; readonly replica: RedisServer }) =>
  Effect.gen(function*() {
    yield* replica.resume
    while ((yield* offset("master_repl_offset", master)) !== (yield* offset("slave_repl_offset", replica))) {
      yield* Effect.sleep("10 millis")
    }
    while ((yield* master.cli("WAIT", 1, 100)) !== 1);
  })

/** A master with a replica that keeps up, and services that wait for it. */
const start = Effect.gen(function*() {
  const master = yield* RedisServer.start({ args: ["--repl-diskless-sync-delay", "0"] })
  const replica = yield* RedisServer.start({ args: ["--replicaof", master.host, String(master.port)] })
  while (!String(yield* replica.cli("INFO", "replication")).includes("master_link_status:up")) {
    yield* Effect.sleep("10 millis")
  }
  yield* caughtUp({ master, replica })
  const client = yield* Layer.build(RedisClient.layer({ url: master.url }))
  const services = (within: Duration.Input) =>
    Effect.map(
      Layer.build(
        Layer.mergeAll(
          JobQueue.layer({ replicas: { count: 1, within } }),
          DistributedLock.layer({ replicas: { count: 1, within } })
        )
      ).pipe(Effect.provideContext(client)),
      (context) => ({ queue: Context.get(context, JobQueue), locks: Context.get(context, DistributedLock) })
    )
  return {
    master,
    replica,
    client: Context.get(client, RedisClient),
    /** For a replica that answers. */
    patient: yield* services("5 seconds"),
    /** For one that does not. */
    hasty: yield* services("100 millis")
  }
})

describe("With replicas to wait for", () => {
  it.live("a replica has the job when its enqueueing is acknowledged", () =>
    Effect.scoped(Effect.gen(function*() {
      const { patient, replica } = yield* start
      const ids = yield* Effect.forEach(["a", "b", "c"], (to) => patient.queue.enqueue(Mail, to), { concurrency: 3 })
      for (const id of ids) {
        assert.include(String(yield* replica.cli("HGET", "app:queue:{mail}:jobs", id)), id.slice(0, 0))
      }
      assert.strictEqual(yield* replica.cli("HLEN", "app:queue:{mail}:jobs"), 3)
    })))

  it.live("a job that no replica has in time fails as not-replicated, and may be enqueued again", () =>
    Effect.scoped(Effect.gen(function*() {
      const { client, hasty, master, patient, replica } = yield* start
      yield* patient.queue.enqueue(Mail, "first", { id: "0" })
      yield* replica.pause
      const enqueueing = yield* Effect.forkChild(Effect.flip(hasty.queue.enqueue(Mail, "ada", { id: "1" })))
      // Meanwhile other commands go their way.
      while ((yield* client.use("hlen", (redis) => redis.hlen("app:queue:{mail}:jobs"))) < 2) yield* Effect.yieldNow
      assert.isUndefined(enqueueing.pollUnsafe())
      const error = yield* Fiber.join(enqueueing)
      assert.deepInclude(error, { _tag: "RedisError", reason: "not-replicated", outcome: "Unknown" })
      assert.strictEqual((yield* patient.queue.counts(Mail)).waiting, 2)
      // On a connection that has written nothing yet, for which a bare WAIT would be content.
      yield* master.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
      const again = yield* Effect.flip(hasty.queue.enqueue(Mail, "ada", { id: "1" }))
      assert.propertyVal(again, "reason", "not-replicated")
      yield* caughtUp({ master, replica })
      assert.strictEqual(yield* patient.queue.enqueue(Mail, "ada", { id: "1" }), "1")
      assert.strictEqual((yield* patient.queue.counts(Mail)).waiting, 2)
    })))

  it.live("a lock that no replica knows of in time is not taken", () =>
    Effect.scoped(Effect.gen(function*() {
      const { hasty, master, patient, replica } = yield* start
      yield* patient.locks.withLock("a")(Effect.void)
      yield* replica.pause
      const error = yield* Effect.flip(hasty.locks.withLock("a")(Effect.die("not held")))
      assert.propertyVal(error, "reason", "not-replicated")
      assert.isTrue((yield* hasty.locks.inspect("a"))._tag === "None")
      yield* caughtUp({ master, replica })
      yield* patient.locks.withLock("a")(Effect.void)
    })))

  it.live("those who come while others wait go together, and wait once", () =>
    Effect.scoped(Effect.gen(function*() {
      const { hasty, master, replica } = yield* start
      yield* replica.pause
      yield* master.cli("CONFIG", "RESETSTAT")
      const names = Array.from({ length: 10 }, (_, i) => `lock ${i}`)
      const errors = yield* Effect.forEach(names, (name) => Effect.flip(hasty.locks.withLock(name)(Effect.void)), {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(errors.map((error) => (error as RedisError).reason), names.map(() => "not-replicated"))
      for (const name of names) assert.isTrue((yield* hasty.locks.inspect(name))._tag === "None")
      const stats = String(yield* master.cli("INFO", "commandstats"))
      assert.isAtMost(Number(/cmdstat_wait:calls=(\d+)/.exec(stats)?.[1]), 3)
    })))

  it.effect.each<[number, string]>([[0, "1 second"], [1.5, "1 second"], [NaN, "1 second"], [1, "0 millis"], [
    1,
    "2 minutes"
  ]])(
    "%d of them within %s are refused",
    ([count, within]) =>
      Effect.gen(function*() {
        const replicas = { count, within: within as "1 second" }
        for (const layer of [JobQueue.layerMemoryWith({ replicas }), DistributedLock.layer({ replicas })]) {
          const error = yield* Effect.flip(
            Effect.scoped(Layer.build(Layer.provide(layer as Layer.Layer<never, unknown>, Layer.empty)))
          )
          assert.match(String(error), /Invalid replicas/)
        }
      })
  )
})
