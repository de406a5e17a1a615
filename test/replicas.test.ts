/** Jobs and locks that count only when replicas have them. */
import { assert, describe, it } from "@effect/vitest"
import { Context, type Duration, Effect, Fiber, Layer, Schema } from "effect"
import { DistributedLock } from "../src/DistributedLock.ts"
import { Health } from "../src/Health.ts"
import * as Job from "../src/Job.ts"
import { JobQueue } from "../src/JobQueue.ts"
import { RedisClient } from "../src/RedisClient.ts"
import type { RedisError } from "../src/RedisError.ts"
import * as RedisScript from "../src/RedisScript.ts"
import { slotOf } from "./support/clusterSlot.ts"
import { RedisServer } from "./support/redisServer.ts"
import { sharedClusterNodes, uniqueNamespace } from "./support/sharedRedis.ts"

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
  it.live("Health tells when there are too few of them, for jobs and for locks, and when they are back", () =>
    Effect.scoped(Effect.gen(function*() {
      const master = yield* RedisServer.start({ args: ["--repl-diskless-sync-delay", "0"] })
      const wait = { replicas: { count: 1 } }
      const services = Layer.mergeAll(Health.layer({ cache: 0 }), JobQueue.layer(wait), DistributedLock.layer(wait))
      const context = yield* Layer.build(Layer.provide(services, RedisClient.layer({ url: master.url })))
      const { check } = Context.get(context, Health)
      const missing = yield* check
      assert.strictEqual(missing.status, "degraded")
      assert.deepStrictEqual(missing.reasons, [
        "replicas for jobs: writes wait for 1 of them, and the master has 0",
        "replicas for locks: writes wait for 1 of them, and the master has 0"
      ])
      yield* RedisServer.start({ args: ["--replicaof", master.host, String(master.port)] })
      const back = yield* Effect.repeat(Effect.delay(check, "10 millis"), {
        until: ({ status }) => status === "healthy"
      })
      assert.deepStrictEqual(back.components["replicas for jobs"]?.details, { replicas: 1, wanted: 1 })
    })))

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

const Count = RedisScript.make({
  name: "test.count",
  keys: ["counter"],
  result: Schema.Finite,
  lua: `return redis.call("INCR", counter)`
})

const Keyless = RedisScript.make({ name: "test.count", keys: [], result: Schema.Finite, lua: "return 1" })

type Logged = readonly [
  id: number,
  at: number,
  micros: number,
  command: ReadonlyArray<string>,
  from: string,
  name: string
]

/** What came over the connection for writes that wait, since it was asked last; not WAIT, which is logged only if it need not. */
const sent = (master: RedisServer) =>
  Effect.gen(function*() {
    const log = (yield* master.cli("SLOWLOG", "GET", 100)) as unknown as ReadonlyArray<Logged>
    yield* master.cli("SLOWLOG", "RESET")
    return log.toReversed().filter(([, , , [command], , name]) => name === "app:durable" && command !== "wait")
      .map(([, , , command]) => command)
  })

describe("A script that waits for replicas", () => {
  it.live("marks, until it forgets it by itself, a key in the namespace and hash slot of its own", () =>
    Effect.scoped(Effect.gen(function*() {
      const { client, master } = yield* start
      yield* client.script(Count, { counter: "known" }, { replicas: { count: 1, within: "5 seconds" } })
      yield* master.cli("CONFIG", "SET", "slowlog-log-slower-than", 0)
      yield* sent(master)
      const keys = ["app:counter", "app:a:{b}:c", "app:a b%7D", "app:ä:{€}", "@shared:lock:{a}:token", "counter", 5]
      for (const counter of keys) {
        const key = String(counter)
        const count = client.script(Count, { counter }, { replicas: { count: 1, within: "5 seconds" } })
        assert.strictEqual(yield* count, 1)
        const [script, mark, ...more] = yield* sent(master)
        assert.deepStrictEqual(script?.slice(2), ["1", key])
        const [, at = "", , ...expiry] = mark!
        assert.deepStrictEqual(mark, ["set", at, "", ...expiry])
        assert.notStrictEqual(at, key)
        assert.strictEqual(slotOf(at), slotOf(key))
        assert.isTrue(at.startsWith(key.slice(0, key.indexOf(":") + 1)), at)
        assert.deepStrictEqual(expiry, ["PX", "1000"])
        assert.deepStrictEqual(more, [])
      }
    })))

  it.live("is refused, and nothing is sent, when its key leaves no place for the mark", () =>
    Effect.scoped(Effect.gen(function*() {
      const master = yield* RedisServer.start()
      const { script } = Context.get(yield* Layer.build(RedisClient.layer({ url: master.url })), RedisClient)
      yield* master.cli("CONFIG", "RESETSTAT")
      const options = { replicas: { count: 1, within: "100 millis" } } as const
      const braces = ["app:a{b", "app:a}b", "app:{}a", "app:{}{a}", "app:a}{b", "{", "}", "{}", ""]
      const refused = [
        script(Keyless, {}, options),
        script(Count, { counter: Buffer.from("app:{a}") }, options),
        ...braces.map((counter) => script(Count, { counter }, options))
      ]
      for (const each of refused) {
        const error = yield* Effect.flip(each)
        assert.deepInclude(error, { _tag: "RedisError", command: "test.count", outcome: "NotSent" })
        assert.match(error.detail, /takes a key, whose braces are a hash tag/)
      }
      assert.notMatch(String(yield* master.cli("INFO", "commandstats")), /cmdstat_(eval|evalsha|set|wait):/)
      assert.strictEqual(yield* master.cli("DBSIZE"), 0)
    })))

  it.live("finds its mark's place in a Cluster, wherever its key is", () =>
    Effect.scoped(Effect.gen(function*() {
      const cluster = { nodes: yield* sharedClusterNodes }
      const context = yield* Layer.build(RedisClient.layer({ cluster, namespace: uniqueNamespace() }))
      const { key, script } = Context.get(context, RedisClient)
      const counters = Array.from({ length: 12 }, (_, i) => key(i % 2 === 0 ? `counter ${i}` : `{${i}}:counter`))
      const counts = yield* Effect.forEach(counters, (counter) =>
        script(Count, { counter }, { replicas: { count: 1, within: "5 seconds" } }), { concurrency: "unbounded" })
      assert.deepStrictEqual(
        counts,
        counters.map(() =>
          1
        )
      )
    })))
})
