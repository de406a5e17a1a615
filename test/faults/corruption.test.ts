/** Stored data that nobody of this version wrote: it is told of, in types, and harms nothing else. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Option, Schema, type Scope, Stream } from "effect"
import { type QueueKey, queueKeyNames } from "../../src/internal/queueKeys.ts"
import * as Job from "../../src/Job.ts"
import * as RateLimit from "../../src/RateLimit.ts"
import { becomes, type Program, startProgram } from "../support/program.ts"
import { wait } from "../support/queuesOnRedis.ts"
import { RedisServer } from "../support/redisServer.ts"

const Text = Job.make("text", { payload: Schema.String, success: Schema.String, error: Schema.String })

interface Corrupt extends Program {
  readonly server: RedisServer
  readonly cli: RedisServer["cli"]
  /** A key of the queue. */
  readonly key: (name: QueueKey) => string
}

const test = <A, E>(run: (corrupt: Corrupt) => Effect.Effect<A, E, Scope.Scope>) => () =>
  Effect.scoped(Effect.gen(function*() {
    const server = yield* RedisServer.start()
    const program = yield* startProgram({ url: server.url, namespace: "odd" })
    return yield* run({ ...program, server, cli: server.cli, key: (name) => `odd:queue:{text}:${name}` })
  }))

/** How many scripts the server runs while nobody wants anything. */
const scriptsAtRest = (server: RedisServer) =>
  Effect.gen(function*() {
    yield* server.cli("CONFIG", "RESETSTAT")
    yield* wait(100)
    const stats = String(yield* server.cli("INFO", "commandstats"))
    return Number(/cmdstat_evalsha:calls=(\d+)/.exec(stats)?.[1] ?? 0)
  })

/** Whatever comes of it, it is typed. */
const typed = <A, E extends { readonly _tag: string }, R>(self: Effect.Effect<A, E, R>) =>
  Effect.asVoid(
    Effect.catchTag(self as Effect.Effect<A, { readonly _tag: "RedisError" }, R>, "RedisError", () => Effect.void)
  )

/** Expects that the server refuses it. */
const isRefused = (self: Effect.Effect<unknown, unknown>) =>
  Effect.map(
    Effect.flip(self),
    (error) => assert.deepInclude(error, { _tag: "RedisError", outcome: "Rejected" })
  )

const lookAtAll = ({ queue }: Program, ids: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    yield* typed(queue.counts(Text))
    for (const state of ["waiting", "delayed", "active", "failed", "finished"] as const) {
      yield* typed(queue.list(Text, { state }))
    }
    for (const id of ids) yield* typed(queue.get(Text, id))
  })

describe("A queue of which a key holds another type of value", () => {
  it.live.each(queueKeyNames.filter((name) => !/^ready_[^5]/.test(name)))(
    "says so, rests between attempts, and goes on once %s is gone",
    (name) =>
      test((corrupt) =>
        Effect.gen(function*() {
          const { cli, key, queue, server, work } = corrupt
          yield* cli("SET", key(name), "wrong")
          yield* typed(queue.enqueueAll(Text, ["a", "b", "c"], { ids: ["a", "b", "c"] }))
          yield* typed(queue.enqueue(Text, "d", { id: "d", delay: 50 }))
          yield* lookAtAll(corrupt, ["a", "d"])
          yield* typed(queue.pause(Text))
          yield* typed(queue.resume(Text))
          const ran: Array<string> = []
          yield* work([Text.handler((text) => Effect.sync(() => (ran.push(text), text)))], { poll: 50 })
          yield* wait(30)
          assert.isAtMost(yield* scriptsAtRest(server), 12)
          yield* cli("DEL", key(name))
          yield* queue.enqueue(Text, "new", { id: "new" })
          assert.strictEqual(yield* queue.result(Text, "new", { within: "8 seconds" }), "new")
          assert.sameMembers([...new Set(ran)], ran)
        })
      )()
  )
})

describe("A script that breaks off half-way", () => {
  it.live(
    "leaves no job with a worker that has not heard of it",
    test(({ cli, key, queue, work }) =>
      Effect.gen(function*() {
        const ids = yield* queue.enqueueAll(Text, ["a", "b", "c"])
        // It is written last, when the jobs have been claimed.
        yield* cli("DEL", key("events"))
        yield* cli("SET", key("events"), "wrong")
        const ran: Array<string> = []
        yield* work([Text.handler((text) => Effect.sync(() => (ran.push(text), text)))])
        yield* becomes("all are claimed", queue.counts(Text), ({ active }) => active === 3)
        yield* cli("DEL", key("events"))
        // Sooner than their leases pass.
        for (const id of ids) yield* queue.result(Text, id, { within: "8 seconds" })
        assert.deepStrictEqual(ran, ["a", "b", "c"])
      })
    )
  )
})

describe("A queue that holds what it never wrote", () => {
  it.live(
    "works on, whatever stands in its lists, sets and hashes",
    test((corrupt) =>
      Effect.gen(function*() {
        const { cli, key, queue, server, work } = corrupt
        const [held] = yield* queue.enqueueAll(Text, ["held"])
        yield* Effect.scoped(queue.take(Text, 1))
        for (const text of ["", "?", "no;such\nthing", "\u00ff", "1", "\0", "a\0b\0c"]) {
          yield* cli("RPUSH", key("ready_5"), text)
          yield* cli("RPUSH", key("ready_0"), text)
          yield* cli("RPUSH", key("finished"), text)
          for (const name of ["delayed", "leases", "dead"] as const) yield* cli("ZADD", key(name), 1, text)
          yield* cli("ZADD", key("sleepers"), 9e15, text)
          for (const name of ["claims", "holders", "failures", "cancels", "awaited"] as const) {
            yield* cli("HSET", key(name), text, "?", `other ${text}`, text)
          }
        }
        yield* lookAtAll(corrupt, ["", "?", "1"].filter((id) => id !== ""))
        const ran: Array<string> = []
        yield* work([Text.handler((text) => Effect.sync(() => (ran.push(text), text)))], { poll: 30 })
        const id = yield* queue.enqueue(Text, "new")
        assert.strictEqual(yield* queue.result(Text, id, { within: "5 seconds" }), "new")
        assert.strictEqual(yield* queue.result(Text, held!, { within: "5 seconds" }), "held")
        assert.sameMembers(ran, ["new", "held"])
        assert.isAtMost(yield* scriptsAtRest(server), 12)
      })
    )
  )

  it.live(
    "tells whoever asks for a result that was stored in an unknown form",
    test(({ cli, key, queue, work }) =>
      Effect.gen(function*() {
        yield* work([Text.handler(Effect.succeed)])
        const outcomes = [
          "",
          "?",
          "c",
          "c;1;1;1;;",
          "z;1;1;1;;\n\"x\"",
          "c;1;1;1;%;\n\"x\"",
          "c;1;1;1;;\n\"x",
          "f;1;1;1;;\nnull"
        ]
        const ids = yield* queue.enqueueAll(Text, outcomes)
        for (const [i, id] of ids.entries()) {
          yield* queue.result(Text, id, { within: "5 seconds" })
          yield* cli("HSET", key("outcomes"), id, outcomes[i]!)
          const error = yield* Effect.flip(queue.result(Text, id, { within: "1 second" }))
          assert.include(error, { _tag: "JobFailed" }, outcomes[i])
          const known = yield* queue.get(Text, id)
          assert.oneOf(known?.state, ["completed", "failed"])
        }
        yield* queue.list(Text, { state: "finished" })
        for (const id of ids) assert.isTrue(yield* queue.remove(Text, id))
      })
    )
  )

  it.live(
    "leaves out events of a kind that it does not know, and shows those behind them",
    test(({ cli, key, queue }) =>
      Effect.gen(function*() {
        const stream = yield* queue.eventsScoped(Text)
        const isLast = ({ id }: { readonly id: string }) => id === "x"
        const reading = yield* Effect.forkChild(Stream.runCollect(Stream.takeUntil(stream, isLast)))
        for (const fields of [["?", "?"], ["queued", "a\u0001%"], ["?", "b", "completed", "c"], ["odd", ""]]) {
          yield* cli("XADD", key("events"), "*", ...fields)
        }
        yield* queue.enqueue(Text, "x", { id: "x" })
        const events = yield* Fiber.join(reading)
        assert.deepStrictEqual(
          events.map(({ id, kind, tenant }) => [kind, id, tenant]),
          [["queued", "a", "%"], ["completed", "c", undefined], ["queued", "x", undefined]]
        )
      })
    )
  )

  it.live(
    "believes nothing that others send to its workers",
    test(({ cli, queue, work }) =>
      Effect.gen(function*() {
        const ran: Array<string> = []
        yield* work([Text.handler((text) => Effect.sync(() => (ran.push(text), text)))])
        yield* becomes("it listens", cli("PUBSUB", "CHANNELS", "*"), (channels) =>
          Array.isArray(channels) && channels.length === 1)
        const [inbox] = (yield* cli("PUBSUB", "CHANNELS", "*")) as [string]
        const address = "odd:queue:{text}"
        const job = (...parts: ReadonlyArray<string>) =>
          [`j${address}`, `${inbox} 1 10000 1`, ...parts].join("\0")
        const forged = job("7", "id", "1;;;;5;0;;;\n\"forged\"")
        for (const letter of ["", "?", "w", "j", `w${address}`, `j${address}`, `c${address}`, job("x", "id"), forged]) {
          yield* cli("PUBLISH", inbox, letter)
        }
        const id = yield* queue.enqueue(Text, "x")
        assert.strictEqual(yield* queue.result(Text, id, { within: "5 seconds" }), "x")
        yield* queue.pause(Text)
        assert.include(ran, "x")
      })
    )
  )
})

describe("A lock whose record is broken", () => {
  it.live.each(["", "?", "\u0001", "\u0001\u0000\u0000", "\u0002later", "\u0001".padEnd(17, "\u0000")])(
    "is refused, left as it is, and given out once it was deleted (%j)",
    (text) =>
      test(({ cli, locks }) =>
        Effect.gen(function*() {
          yield* cli("SET", "odd:lock:{lock}", text)
          yield* isRefused(Effect.scoped(locks.tryAcquire("lock")))
          yield* isRefused(locks.withLock("lock", { wait: "50 millis" })(Effect.void))
          yield* isRefused(locks.inspect("lock"))
          assert.strictEqual(yield* cli("GET", "odd:lock:{lock}"), text)
          yield* cli("DEL", "odd:lock:{lock}")
          yield* locks.withLock("lock")(Effect.void)
        })
      )()
  )

  it.live(
    "is lost when somebody overwrites it, and those in line come on",
    test(({ cli, locks }) =>
      Effect.gen(function*() {
        const working = yield* Effect.forkChild(
          Effect.flip(locks.withLock("lock", { ttl: "200 millis" })(Effect.never))
        )
        yield* becomes("it is held", locks.inspect("lock"), Option.isSome)
        for (const name of ["line", "patience"]) yield* cli("ZADD", `odd:lock:{lock}:${name}`, 9e15, "?", 9e15, "")
        const waiting = yield* Effect.forkChild(locks.withLock("lock")(Effect.succeed("mine")))
        yield* becomes("it waits", locks.inspect("lock"), Option.exists(({ waiters }) => waiters === 3))
        yield* cli("SET", "odd:lock:{lock}", "?")
        assert.include(yield* Fiber.join(working), { _tag: "LockLost" })
        yield* cli("DEL", "odd:lock:{lock}")
        assert.strictEqual(yield* Fiber.join(waiting), "mine")
      })
    )
  )

  it.live(
    "guards no text that it cannot tell the token of, and leaves it alone",
    test(({ cli, locks }) =>
      Effect.gen(function*() {
        for (const fence of ["", "?", "2 1 0", "1 1", "1 x 0"]) {
          yield* cli("SET", "odd:guarded:{text}:value", "kept")
          yield* cli("SET", "odd:guarded:{text}:token", fence)
          yield* isRefused(locks.guardedSet({ key: "lock", token: 5 }, "text", "x"))
          yield* isRefused(locks.guardedGet("text"))
          assert.strictEqual(yield* cli("GET", "odd:guarded:{text}:value"), "kept")
        }
      })
    )
  )
})

describe("A limiter whose state is broken", () => {
  it.live(
    "takes it for unused, or for as much as the limit holds, and never for more",
    test(({ cli, client, limiter }) =>
      Effect.gen(function*() {
        const limits = [
          RateLimit.fixedWindow({ name: "window", limit: 3, window: "1 hour" }),
          RateLimit.gcra({ name: "smooth", limit: 3, period: "1 hour", burst: 3 })
        ]
        yield* limiter.check(limits, "ada")
        const keys = (yield* cli("KEYS", "*")) as ReadonlyArray<string>
        assert.lengthOf(keys, 2)
        for (const bytes of [0x00, 0x01, 0x7f, 0xff, 0x41]) {
          for (const length of [0, 1, 23, 24, 25]) {
            const state = Buffer.alloc(length, bytes)
            for (const key of keys) yield* client.use("set", (redis) => redis.set(key, state))
            let passed = 0
            for (let i = 0; i < 5; i++) {
              const { allowed, remaining } = yield* limiter.check(limits, "ada")
              assert.isTrue(remaining >= 0 && remaining <= 3, `${length} times ${bytes}: ${remaining}`)
              if (allowed) passed++
            }
            assert.isAtMost(passed, 3, `${length} times ${bytes}`)
          }
        }
      })
    )
  )
})
