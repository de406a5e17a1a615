/** What holds of queues on Redis only: keys, commands, wake-ups, and what is left behind. */
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Fiber, Layer, Schema, Scope, Stream } from "effect"
import { Redis as Client } from "ioredis"
import { queueKeyNames } from "../src/internal/queueKeys.ts"
import * as Job from "../src/Job.ts"
import { JobQueue } from "../src/JobQueue.ts"
import { JobWorker, type JobWorkerOptions } from "../src/JobWorker.ts"
import { RedisClient } from "../src/RedisClient.ts"
import { eventually, type QueuesOnRedis, queuesOnRedis, wait } from "./support/queuesOnRedis.ts"
import { RedisServer } from "./support/redisServer.ts"
import { uniqueNamespace } from "./support/sharedRedis.ts"

const Text = Job.make("text", { payload: Schema.String, success: Schema.String })
const echo = Text.handler(Effect.succeed)

const workers = (
  handlers: ReadonlyArray<Job.JobHandler<never>>,
  options: JobWorkerOptions & QueuesOnRedis = {}
) => Layer.provideMerge(JobWorker.layer(handlers, { shutdown: 50, ...options }), queuesOnRedis(options))

const texts = (count: number) => Array.from({ length: count }, (_, i) => String(i))

/** How often the server has run a command. */
const callsOf = (server: RedisServer, command: string) =>
  Effect.map(server.cli("INFO", "commandstats"), (info) => {
    const [, calls = "0"] = new RegExp(`cmdstat_${command}:calls=(\\d+)`).exec(String(info)) ?? []
    return Number(calls)
  })

const keysOf = (server: RedisServer) => Effect.map(server.cli("KEYS", "*"), (keys) => keys as ReadonlyArray<string>)

describe("JobQueue's keys", () => {
  it.live("are all declared, and share one slot, whatever is done to a queue", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start({ args: ["--cluster-enabled", "yes"] })
      const slots = Array.from({ length: 16_384 }, (_, slot) => slot)
      yield* server.cli("CLUSTER", "ADDSLOTS", ...slots)
      yield* eventually(
        "the cluster is up",
        Effect.map(server.cli("CLUSTER", "INFO"), (info) => String(info).includes("cluster_state:ok"))
      )
      const monitor = new Client(server.url)
      yield* Effect.addFinalizer(() => Effect.sync(() => monitor.disconnect()))
      const watching = yield* Effect.promise(() => monitor.monitor())
      const seen: Array<ReadonlyArray<string>> = []
      watching.on("monitor", (_, command: ReadonlyArray<string>, source: string) => {
        seen.push(source === "lua" ? ["lua", ...command] : command)
      })
      yield* Effect.addFinalizer(() => Effect.sync(() => watching.disconnect()))

      const clock = { offsetMillis: 0 }
      yield* Effect.gen(function*() {
        const queue = yield* JobQueue
        const Failing = Job.make("fail{ing}:", {
          payload: Schema.String,
          success: Schema.String,
          error: Schema.String,
          attempts: 2,
          backoff: { kind: "fixed", delay: 0 }
        })
        yield* Effect.forkScoped(Stream.runDrain(queue.events(Failing)))
        for (let round = 0; round < 2; round++) {
          yield* queue.enqueueAll(Failing, Array.from({ length: 12 }, () => "x"), { tenant: "t" })
          yield* queue.enqueue(Failing, "own", { id: `own ${round}`, priority: 0 })
          yield* queue.enqueue(Failing, "delayed", { id: `delayed ${round}`, delay: "1 minute", lifo: true })
          yield* queue.enqueue(Failing, "promoted", { id: `promoted ${round}`, delay: "1 minute" })
          const result = yield* Effect.forkScoped(
            Effect.exit(queue.result(Failing, `own ${round}`, { within: "9 seconds" }))
          )
          const [a, b, c, d, e] = yield* queue.take(Failing, 5)
          yield* queue.cancel(Failing, b!.id)
          yield* queue.remove(Failing, "nobody")
          yield* a!.complete("x")
          yield* b!.release()
          yield* c!.fail("x")
          yield* d!.release({ delay: "1 minute" })
          yield* queue.promote(Failing, `promoted ${round}`)
          const [f] = yield* queue.take(Failing, 1)
          yield* queue.cancel(Failing, (yield* queue.list(Failing, { state: "waiting" })).jobs[0]!.id)
          yield* queue.remove(Failing, (yield* queue.list(Failing, { state: "waiting" })).jobs[0]!.id)
          yield* f!.fail("x")
          clock.offsetMillis += 70_000
          yield* queue.take(Failing, 3)
          yield* Effect.forEach(["waiting", "delayed", "active", "failed", "finished"] as const, (state) =>
            queue.list(Failing, { state, limit: 3 }))
          yield* queue.counts(Failing)
          yield* queue.pause(Failing)
          yield* queue.resume(Failing)
          const waiting = yield* Effect.forkScoped(queue.take(Failing, 1, { wait: "1 minute" }))
          yield* Fiber.join(waiting)
          const once = yield* queue.enqueue(Failing, "once", { attempts: 1, priority: 0 })
          const [last] = yield* queue.take(Failing, 1)
          assert.strictEqual(last?.id, once)
          yield* last!.fail("for good")
          if (round === 0) {
            yield* queue.replay(Failing)
          }
          yield* queue.clear(Failing)
          yield* Fiber.interrupt(result)
          yield* e!.complete("x").pipe(Effect.ignore)
        }
      }).pipe(Effect.scoped, Effect.provide(queuesOnRedis({ url: server.url, clock })))

      const names = new Set(queueKeyNames.map((name) =>
        `:queue:{fail%7Bing%7D%3A}:${name}`
      ))
      let declared: ReadonlyArray<string> = []
      const touched = new Set<string>()
      for (const [first = "", ...rest] of seen) {
        const isScript = /^eval(sha)?$/i.test(first)
        if (isScript) declared = rest.slice(2, 2 + Number(rest[1]))
        if (first !== "lua") continue
        const [command = "", key = "", ...more] = rest
        if (/^(time|publish)$/i.test(command)) continue
        const keys = /^exists$/i.test(command) ? [key, ...more] : [key]
        for (const each of keys) {
          assert.include(declared, each, `${command} on a key that is not declared`)
          touched.add(each)
        }
      }
      const stored = (yield* keysOf(server)).concat(...touched)
      assert.isAbove(stored.length, 10)
      for (const key of stored) assert.isTrue(names.has(key.slice(key.indexOf(":"))), `${key} is none of ours`)
      assert.strictEqual(new Set(stored.map((key) => /\{.*\}/.exec(key)?.[0])).size, 1)
    }).pipe(Effect.scoped))

  it.live("bound how much of a queue's history is kept", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const { key, use } = yield* RedisClient
      for (let i = 0; i < 400; i++) {
        yield* queue.enqueue(Text, "x", { delay: "1 hour", id: "x" })
        yield* queue.remove(Text, "x")
      }
      // Whole nodes of the stream are dropped, of 100 entries each.
      assert.isAtMost(yield* use("xlen", (client) => client.xlen(key("queue", "{text}", "events"))), 300)
    }).pipe(Effect.provide(queuesOnRedis({ eventBatches: 100 })), Effect.scoped))

  it.live("hold leases of 10 seconds by default", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const { key, use } = yield* RedisClient
      const leases = key("queue", "{text}", "leases")
      yield* queue.enqueue(Text, "x")
      yield* eventually("it runs", Effect.map(queue.counts(Text), ({ active }) => active === 1))
      const [, until] = yield* use("zrange", (client) => client.zrange(leases, "0", "0", "WITHSCORES"))
      const [seconds] = yield* use("time", (client) => client.time())
      assert.closeTo(Number(until) - Number(seconds) * 1000, 10_000, 2000)
    }).pipe(Effect.provide(workers([Text.handler(() => Effect.never)])), Effect.scoped))
})

describe("JobQueue's commands", () => {
  it.live("are few: an idle worker sends none, and one job wakes one worker of five", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      const seen: Array<string> = []
      const namespace = uniqueNamespace()
      const { queue } = Context.get(
        yield* Layer.build(
          Layer.effect(Holder, Effect.map(JobQueue, (queue) => ({ queue }))).pipe(
            Layer.provide(queuesOnRedis({ url: server.url, namespace }))
          )
        ),
        Holder
      )
      for (const name of ["a", "b", "c", "d", "e"]) {
        yield* Layer.build(
          workers([Text.handler((text) => Effect.sync(() => (seen.push(name), text)))], {
            url: server.url,
            namespace,
            poll: "1 hour"
          })
        )
      }
      const sleepers = Effect.map(
        server.cli("ZCARD", `${namespace}:queue:{text}:sleepers`),
        Number
      )
      const scripts = callsOf(server, "evalsha")
      const settled = Effect.gen(function*() {
        let last = -1
        yield* eventually(
          "all rest",
          Effect.gen(function*() {
            const before = last
            last = yield* scripts
            yield* wait(20)
            return before === last && (yield* sleepers) === 5
          })
        )
        return last
      })
      // The first job teaches the server all scripts.
      yield* queue.enqueue(Text, "first")
      let before = yield* settled
      yield* wait(100)
      assert.strictEqual(yield* scripts, before)
      const by = new Set<string>()
      for (let round = 0; round < 10; round++) {
        seen.length = 0
        yield* queue.enqueue(Text, "x")
        yield* eventually("it ran", Effect.sync(() => seen.length === 1))
        const after = yield* settled
        // To store it and hand it over, and to report it.
        assert.strictEqual(after - before, 2)
        before = after
        by.add(seen[0]!)
      }
      // Whoever has rested longest is called.
      assert.strictEqual(by.size, 5)
      yield* queue.enqueueAll(Text, ["x", "y", "z"])
      yield* eventually("all ran", Effect.sync(() => seen.length === 4))
      assert.isAtMost((yield* settled) - before, 1 + 3 * 2)
    }).pipe(Effect.scoped))

  it.live("look again at every poll interval, and no more often", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      yield* Effect.gen(function*() {
        yield* (yield* JobQueue).enqueue(Text, "x")
        yield* wait(60)
        const before = yield* callsOf(server, "evalsha")
        yield* wait(180)
        const polls = (yield* callsOf(server, "evalsha")) - before
        assert.isAtLeast(polls, 2)
        assert.isAtMost(polls, 4)
      }).pipe(Effect.provide(workers([echo], { url: server.url, poll: "50 millis" })))
    }).pipe(Effect.scoped))

  it.live("write one event entry for a batch", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      yield* Effect.gen(function*() {
        const queue = yield* JobQueue
        yield* queue.enqueueAll(Text, Array.from({ length: 1000 }, () => "x"))
        assert.strictEqual(yield* callsOf(server, "xadd"), 1)
        yield* Effect.scoped(Effect.gen(function*() {
          yield* Layer.build(JobWorker.layer([echo], { concurrency: 100 }))
          yield* eventually("all ran", Effect.map(queue.counts(Text), ({ finished }) => finished === 1000))
        }))
        // Ten claims of a hundred, each with the reports on the hundred before, and the last reports.
        assert.isAtMost(yield* callsOf(server, "xadd"), 1 + 11)
      }).pipe(Effect.provide(queuesOnRedis({ url: server.url })))
    }).pipe(Effect.scoped))

  it.live("gather enqueues that are made at once", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      yield* Effect.gen(function*() {
        const queue = yield* JobQueue
        yield* queue.enqueue(Text, "first")
        const before = yield* callsOf(server, "evalsha")
        const ids = yield* Effect.forEach(Array.from({ length: 500 }), (_, i) => queue.enqueue(Text, String(i)), {
          concurrency: "unbounded"
        })
        assert.strictEqual(new Set(ids).size, 500)
        assert.strictEqual(yield* queue.size(Text), 501)
        assert.isAtMost((yield* callsOf(server, "evalsha")) - before, 5)
      }).pipe(Effect.provide(queuesOnRedis({ url: server.url })))
    }).pipe(Effect.scoped))

  it.live("are two calls for callers who come back together, so that server and callers work at once", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      yield* Effect.gen(function*() {
        const queue = yield* JobQueue
        const rounds = 40
        const caller = Effect.forEach(texts(rounds), (text) => queue.enqueue(Text, text), { discard: true })
        const before = yield* callsOf(server, "evalsha")
        yield* Effect.forEach(texts(50), () => caller, { concurrency: "unbounded", discard: true })
        assert.strictEqual(yield* queue.size(Text), 50 * rounds)
        const calls = (yield* callsOf(server, "evalsha")) - before
        assert.isAtLeast(calls, 1.5 * rounds)
        assert.isAtMost(calls, 2.5 * rounds)
      }).pipe(Effect.provide(queuesOnRedis({ url: server.url })))
    }).pipe(Effect.scoped))
})

describe("JobQueue's tombstones", () => {
  it.live("are passed over, however many there are, and leave nothing behind", () =>
    Effect.gen(function*() {
      const queue = yield* JobQueue
      const { key, use } = yield* RedisClient
      const ids = (yield* Stream.runCollect(
        queue.enqueueChunks(Text, Array.from({ length: 4000 }, (_, i) => String(i)))
      )).flat()
      const gone = ids.filter((_, i) => i % 1000 !== 999)
      yield* Effect.forEach(gone, (id, i) =>
        Effect.asVoid<unknown, unknown, never>(i % 2 === 0 ? queue.remove(Text, id) : queue.cancel(Text, id)), {
        concurrency: 200,
        discard: true
      })
      assert.include(yield* queue.counts(Text), { waiting: 4 })
      const page = yield* queue.list(Text, { state: "waiting", limit: 1000 })
      assert.isDefined(page.next)
      const seen: Array<string> = []
      yield* Layer.build(
        JobWorker.layer([Text.handler((text) =>
          Effect.sync(() => (seen.push(text), text))
        )], { poll: "1 hour" })
      )
      yield* eventually("all ran", Effect.sync(() => seen.length === 4))
      assert.deepStrictEqual(seen, ["999", "1999", "2999", "3999"])
      const stale = Effect.map(
        use("hget", (client) => client.hget(key("queue", "{text}", "meta"), "stale")),
        Number
      )
      yield* eventually("no tombstone is left", Effect.map(stale, (count) => count === 0))
      assert.strictEqual(yield* use("llen", (client) => client.llen(key("queue", "{text}", "ready_5"))), 0)
    }).pipe(Effect.provide(queuesOnRedis()), Effect.scoped))
})

describe("JobQueue and records that it did not write", () => {
  it.live("makes them dead letters, and works on", () =>
    Effect.gen(function*() {
      const clock = { offsetMillis: 0 }
      yield* Effect.gen(function*() {
        const queue = yield* JobQueue
        const { key, use } = yield* RedisClient
        const jobs = key("queue", "{text}", "jobs")
        const broken = [
          "",
          "garbage",
          "2;;;;5;0;;;\n\"x\"",
          "1;;;;5;0;%;;\n\"x\"",
          "1;;;;5;0;;;{\n\"x\"",
          "1;;;;5;0;;;\n\"\0\"",
          "1;;\n"
        ]
        const ids = yield* queue.enqueueAll(Text, broken, { tenant: "t" })
        const removed = yield* queue.enqueue(Text, "removed")
        const fine = yield* queue.enqueue(Text, "fine")
        yield* queue.remove(Text, removed)
        for (const [i, id] of ids.entries()) yield* use("hset", (client) => client.hset(jobs, id, broken[i]!))
        // Also when a lease passes, and when a job is cancelled, retried or released.
        const [first] = yield* use("lrange", (client) => client.lrange(key("queue", "{text}", "ready_5"), 0, 0))
        assert.strictEqual(first, ids[0])
        yield* queue.list(Text, { state: "waiting" })
        yield* queue.counts(Text)
        yield* Layer.build(JobWorker.layer([echo], { poll: 20 }))
        assert.strictEqual(yield* queue.result(Text, fine, { within: "5 seconds" }), "fine")
        for (const id of ids) {
          const error = yield* Effect.flip(queue.result(Text, id, { within: "5 seconds" }))
          assert.include(error, { _tag: "JobFailed", reason: "undecodable" })
        }
        assert.lengthOf((yield* queue.list(Text, { state: "failed" })).jobs, broken.length)
        assert.strictEqual(yield* queue.cancel(Text, ids[0]!), "unchanged")
      }).pipe(Effect.provide(queuesOnRedis({ clock })))
    }).pipe(Effect.scoped))

  it.live("takes them back from holders that have gone", () =>
    Effect.gen(function*() {
      const clock = { offsetMillis: 0 }
      yield* Effect.gen(function*() {
        const queue = yield* JobQueue
        const { key, use } = yield* RedisClient
        const ids = yield* queue.enqueueAll(Text, ["a", "b"])
        yield* Effect.scoped(Effect.gen(function*() {
          yield* queue.take(Text, 2)
          yield* use("hset", (client) => client.hset(key("queue", "{text}", "jobs"), ids[0]!, "2;of another version"))
          clock.offsetMillis += 60_000
          yield* Effect.scoped(queue.take(Job.make("other", { payload: Schema.String, queue: "text" }), 5))
        }))
        clock.offsetMillis += 60_000
        yield* Layer.build(JobWorker.layer([echo], { poll: 20 }))
        assert.strictEqual(yield* queue.result(Text, ids[1]!, { within: "5 seconds" }), "b")
        const error = yield* Effect.flip(queue.result(Text, ids[0]!, { within: "5 seconds" }))
        assert.include(error, { _tag: "JobFailed", reason: "undecodable" })
      }).pipe(Effect.provide(queuesOnRedis({ clock })))
    }).pipe(Effect.scoped))
})

describe("JobQueue's end", () => {
  it.live("leaves no connection, no sleeper, and nothing active", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      const namespace = uniqueNamespace()
      const scope = yield* Scope.make()
      const context = yield* Scope.provide(
        Layer.build(workers([echo, Job.make("hang", { payload: Schema.Void }).handler(() => Effect.never)], {
          url: server.url,
          namespace
        })),
        scope
      )
      const queue = Context.get(context, JobQueue)
      const sleepers = (name: string) => server.cli("ZCARD", `${namespace}:queue:{${name}}:sleepers`)
      yield* queue.enqueue(Job.make("hang", { payload: Schema.Void }), undefined)
      yield* eventually("it hangs", Effect.map(queue.counts("hang"), ({ active }) => active === 1))
      yield* Scope.provide(Effect.forkScoped(Stream.runDrain(queue.events(Text))), scope)
      const waiting = yield* Effect.forkChild(Effect.scoped(queue.take(Text, 1, { wait: "1 hour" })))
      const result = yield* Effect.forkChild(Effect.flip(queue.result(Text, "nobody", { within: "1 hour" })))
      yield* eventually("both rest", Effect.map(sleepers("text"), (count) => count === 2))
      yield* Fiber.interrupt(waiting)
      assert.strictEqual(yield* sleepers("text"), 1)
      yield* Fiber.join(result)
      yield* Scope.close(scope, Exit.void)
      assert.lengthOf(yield* server.clients(), 0)
      assert.deepStrictEqual([yield* sleepers("text"), yield* sleepers("hang")], [0, 0])
      const [leases] = [yield* server.cli("ZCARD", `${namespace}:queue:{hang}:leases`)]
      assert.strictEqual(leases, 0)
      assert.strictEqual(yield* server.cli("LLEN", `${namespace}:queue:{hang}:ready_5`), 1)
    }).pipe(Effect.scoped))

  it.live("does not wait for a server that is away", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      const scope = yield* Scope.make()
      const context = yield* Scope.provide(
        Layer.build(workers([echo], { url: server.url, shutdown: "7 seconds" })),
        scope
      )
      yield* Context.get(context, JobQueue).enqueue(Text, "x")
      yield* wait(20)
      yield* server.kill()
      yield* wait(60)
      const before = performance.now()
      yield* Scope.close(scope, Exit.void)
      // Seven seconds are for jobs, and none runs.
      assert.isBelow(performance.now() - before, 3000)
    }).pipe(Effect.scoped))

  it.live("comes back for a wake-up that was lost with its connection", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      yield* Effect.gen(function*() {
        const queue = yield* JobQueue
        const Hang = Job.make("hang", { payload: Schema.Void })
        const ended: Array<string> = []
        yield* Layer.build(
          JobWorker.layer([
            echo,
            Hang.handler(() => Effect.onInterrupt(Effect.never, () => Effect.sync(() => ended.push("interrupted"))))
          ], { poll: "1 hour", shutdown: 50, lease: "1 minute" })
        )
        const hanging = yield* queue.enqueue(Hang, undefined)
        yield* eventually("it hangs", Effect.map(queue.counts(Hang), ({ active }) => active === 1))
        // Nobody hears what is said before the subscriptions are back.
        yield* server.cli("CLIENT", "KILL", "TYPE", "pubsub")
        const id = yield* queue.enqueue(Text, "x")
        assert.strictEqual(yield* queue.cancel(Hang, hanging), "requested")
        assert.strictEqual(yield* queue.result(Text, id, { within: "3 seconds" }), "x")
        yield* eventually("it is interrupted", Effect.sync(() => ended.length === 1))
      }).pipe(Effect.provide(queuesOnRedis({ url: server.url })))
    }).pipe(Effect.scoped))
})

/** To get a service out of a layer that has more. */
class Holder extends Context.Service<Holder, { readonly queue: JobQueue["Service"] }>()("test/Holder") {}
