/** What a client on a Cluster sends where. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Result, Schema, Scope } from "effect"
import * as fc from "fast-check"
import { slotOf } from "../../src/internal/hashSlot.ts"
import { clientEngine } from "../../src/internal/redisEngine.ts"
import * as RedisScript from "../../src/RedisScript.ts"
import { connectTo, keyAtEach, keysAt, suiteCluster } from "../support/suiteCluster.ts"

const cluster = suiteCluster()

const sum = RedisScript.make({
  name: "sum",
  keys: ["one", "two"],
  result: Schema.Finite,
  lua: "return redis.call('INCR', one) + redis.call('INCR', two)"
})

describe("slotOf", () => {
  it.live("is what the server says, for any bytes and any hash tags", () =>
    Effect.gen(function*() {
      const pieces = fc.constantFrom("{", "}", "{}", "a", "é", "\ud83d\ude00", "\n", "", "user")
      const texts = fc.oneof(fc.string({ unit: "binary" }), fc.array(pieces).map((all) => all.join("")))
      const bytes = fc.array(fc.oneof(fc.integer({ min: 0, max: 255 }), fc.constantFrom(0x7b, 0x7d))).map((all) =>
        Buffer.from(all)
      )
      const [someTexts, someBytes] = [fc.sample(texts, 300), fc.sample(bytes, 200)]
      const client = yield* connectTo(cluster())
      const keys = [...someTexts.map((text) => text.toWellFormed()), ...someBytes]
      const expected = yield* client.pipeline((all) =>
        keys.reduce((all, key) => all.call("CLUSTER", "KEYSLOT", key), all)
      )
      assert.deepStrictEqual(keys.map((key) => Result.succeed(slotOf(key))), expected)
    }))
})

describe("use", () => {
  it.live("sends each command to the server of its keys, several of one call too", () =>
    Effect.gen(function*() {
      const client = yield* connectTo(cluster())
      const keys = yield* keyAtEach(cluster(), "use")
      const replies = yield* client.use("incr", (redis) => Promise.all(keys.map((key) => redis.incr(key))))
      assert.deepStrictEqual(replies, [1, 1, 1])
      const later = yield* client.use("later", async (redis) => {
        const seen = []
        for (const key of keys) seen.push(await redis.incr(key), await redis.getBuffer(key))
        return seen.map(String)
      })
      assert.deepStrictEqual(later, ["2", "2", "2", "2", "2", "2"])
      for (const key of keys) assert.strictEqual(yield* (yield* cluster().masterOf(key)).cli("GET", key), "2")
    }))

  it.live("goes to the server of `key`, whatever the function sends", () =>
    Effect.gen(function*() {
      const client = yield* connectTo(cluster())
      const keys = yield* keyAtEach(cluster(), "keyed")
      for (const key of keys) {
        const owner = yield* cluster().masterOf(key)
        const id = yield* client.use("myid", (redis) => redis.call("CLUSTER", "MYID"), { key })
        assert.strictEqual(id, owner.id)
        // A transaction of one's own needs no `multi` where all goes to one connection.
        const replies = yield* client.use("both", (redis) => Promise.all([redis.incr(key), redis.incr(key)]), { key })
        assert.deepStrictEqual(replies, [1, 2])
      }
    }))

  it.live("asks any master what has no key", () =>
    Effect.gen(function*() {
      const client = yield* connectTo(cluster())
      const ids = (yield* cluster().masters).map(({ id }) => id)
      const asked = yield* client.use("ids", (redis) =>
        Promise.all(Array.from({ length: 30 }, () => redis.call("CLUSTER", "MYID"))))
      for (const id of asked) {
        assert.include(ids, id)
      }
      const { redis_mode, role } = yield* client.info()
      assert.deepStrictEqual([redis_mode, role], ["cluster", "master"])
      assert.property(yield* client.info("memory"), "used_memory")
    }))

  it.live("refuses what means one connection, in any spelling, and sends nothing", () =>
    Effect.gen(function*() {
      const client = yield* connectTo(cluster())
      for (const name of ["SUBSCRIBE", "multi", "Watch", "select", "WAIT", "readonly", "monitor", "asking"]) {
        const error = yield* Effect.flip(client.use(name, (redis) => redis.call(name, "1")))
        assert.deepInclude(error, { reason: "reply", outcome: "NotSent" })
        assert.match(error.detail, /one connection/)
      }
      const keys = yield* keyAtEach(cluster(), "mset")
      const error = yield* Effect.flip(
        client.use("mset", (redis) => redis.mset(keys.flatMap((key) => [key, "1"])))
      )
      assert.deepInclude(error, { reason: "cross-slot", outcome: "NotSent" })
      assert.match(error.detail, /^key 1 is in hash slot \d+, and key 2 in \d+/)
    }))

  it.live("says that something may have run when what was sent later was not sent", () =>
    Effect.gen(function*() {
      const client = yield* connectTo(cluster())
      const [key = "", other = ""] = yield* keyAtEach(cluster(), "partly")
      const crossing = yield* Effect.flip(
        client.use("two", async (redis) => {
          await redis.incr(key)
          return redis.mget(key, other)
        })
      )
      assert.deepInclude(crossing, { reason: "cross-slot", outcome: "Unknown" })
      assert.strictEqual(yield* (yield* cluster().masterOf(key)).cli("GET", key), "1")
    }))
})

describe("raw", () => {
  it.live("sends each command to the server of its keys", () =>
    Effect.gen(function*() {
      const { raw } = yield* connectTo(cluster())
      const keys = yield* keyAtEach(cluster(), "raw")
      const replies = yield* Effect.promise(async () => {
        for (const key of keys) await raw.set(key, key)
        const [got, piped] = [await Promise.all(keys.map((key) => raw.get(key))), raw.pipeline()]
        for (const key of keys) piped.strlen(key)
        return { got, lengths: await piped.exec() }
      })
      assert.deepStrictEqual(replies.got, [...keys])
      assert.deepStrictEqual(replies.lengths, keys.map((key) => [null, key.length]))
      const refused = yield* Effect.promise(() => raw.subscribe("news").then(() => "no", String))
      assert.match(refused, /one connection/)
    }))
})

describe("pipeline", () => {
  it.live("goes to many servers, and each command has its own result in its place", () =>
    Effect.gen(function*() {
      const client = yield* connectTo(cluster())
      const keys = yield* keyAtEach(cluster(), "pipe")
      const [a = "", b = "", c = ""] = keys
      const results = yield* client.pipeline((all) =>
        all.set(a, "text").incr(b).lpush(a, "1").incr(c).mget(a, b).publish("nobody", "1").incr(b)
      )
      assert.deepStrictEqual(
        results.map((result) => Result.isSuccess(result) ? result.success : result.failure.reason),
        ["OK", 1, "wrong-type", 1, "cross-slot", 0, 2]
      )
      assert.deepStrictEqual(yield* client.pipeline((all) => all), [])
    }))

  it.live("keeps the order of many commands on many keys", () =>
    Effect.gen(function*() {
      const client = yield* connectTo(cluster())
      const names = Array.from({ length: 2000 }, (_, i) => `order:${i % 100}`)
      const results = yield* client.pipeline((all) => names.reduce((all, name) => all.incr(name), all))
      assert.deepStrictEqual(results, names.map((_, i) => Result.succeed(Math.floor(i / 100) + 1)))
    }))
})

describe("multi", () => {
  it.live("runs on keys of one slot, and refuses others before anything is sent", () =>
    Effect.gen(function*() {
      const client = yield* connectTo(cluster())
      const [a = "", b = ""] = yield* keyAtEach(cluster(), "multi")
      assert.deepStrictEqual(yield* client.multi((all) => all.incr(a).incr(a).get(a)), [1, 2, "2"])
      const error = yield* Effect.flip(client.multi((all) => all.incr(a).get("x{y}").incr(b)))
      assert.deepInclude(error, { command: "multi", reason: "cross-slot", outcome: "NotSent" })
      assert.match(error.detail, /a key of command 1 \(incr\).* a key of command [23] \((get|incr)\)/)
      const thrown = yield* Effect.flip(client.multi(() => {
        throw new TypeError("the caller's")
      }))
      assert.deepInclude(thrown, { command: "multi", outcome: "NotSent" })
      assert.match(thrown.detail, /TypeError/)
      assert.strictEqual(yield* client.use("get", (redis) => redis.get(a)), "2")
    }))
})

describe("script", () => {
  it.live("runs on keys of one slot, also after SCRIPT FLUSH, and refuses others by their names", () =>
    Effect.gen(function*() {
      const client = yield* connectTo(cluster())
      const [a = "", b = ""] = yield* keyAtEach(cluster(), "script")
      assert.strictEqual(yield* client.script(sum, { one: `{${a}}1`, two: `{${a}}2` }), 2)
      for (const master of yield* cluster().masters) yield* master.cli("SCRIPT", "FLUSH")
      assert.strictEqual(yield* client.script(sum, { one: `{${a}}1`, two: `{${a}}2` }), 4)
      const error = yield* Effect.flip(client.script(sum, { one: a, two: b }))
      assert.deepInclude(error, { command: "sum", reason: "cross-slot", outcome: "NotSent" })
      assert.match(error.detail, /^one is in hash slot \d+, and two in \d+/)
    }))

  it.live("finds the server of a key that is given as a number", () =>
    Effect.gen(function*() {
      const client = yield* connectTo(cluster())
      const double = RedisScript.make({
        name: "double",
        keys: ["n"],
        result: Schema.Finite,
        lua: "return redis.call('INCRBY', n, 2)"
      })
      for (const key of yield* keyAtEach(cluster(), "4")) {
        assert.strictEqual(yield* client.script(double, { n: Number(key) }), 2)
        assert.strictEqual(yield* (yield* cluster().masterOf(key)).cli("GET", key), "2")
        assert.strictEqual(yield* client.script(double, { n: Number(key) }, { replicas: { count: 1 } }), 4)
      }
      const error = yield* Effect.flip(client.script(sum, { one: 1, two: 2 }))
      assert.deepInclude(error, { command: "sum", reason: "cross-slot", outcome: "NotSent" })
    }))
})

describe("servers", () => {
  it.live("are the masters, and what is sent to one stays there", () =>
    Effect.gen(function*() {
      const client = yield* connectTo(cluster())
      const masters = yield* cluster().masters
      const servers = yield* client.servers
      assert.deepStrictEqual(
        servers.map(({ address }) => address),
        masters.map(({ port }) => `127.0.0.1:${port}`).toSorted()
      )
      const ids = yield* Effect.forEach(servers, ({ use }) => use("myid", (redis) => redis.call("CLUSTER", "MYID")))
      assert.sameMembers(ids, masters.map(({ id }) => id))
      const [key = ""] = yield* keysAt(cluster(), masters[0]!, 1, "elsewhere")
      const other = servers.find(({ address }) => address !== `127.0.0.1:${masters[0]!.port}`)!
      const error = yield* Effect.flip(other.use("get", (redis) => redis.get(key)))
      assert.deepInclude(error, { reason: "cluster-down", outcome: "Rejected" })
      assert.match(error.detail, /^MOVED/)
    }))
})

describe("Commands on many keys", () => {
  it.live("ask each slot's server, and put the replies together in the keys' order", () =>
    Effect.gen(function*() {
      const engine = clientEngine(yield* connectTo(cluster()))
      const keys = Array.from({ length: 40 }, (_, i) => `many:${i}`)
      for (const key of keys.slice(0, 30)) yield* engine.set(key, key)
      assert.deepStrictEqual(yield* engine.getMany([...keys, "many:3"]), [
        ...keys.map((key, i) => i < 30 ? key : null),
        "many:3"
      ])
      assert.strictEqual(yield* engine.del(keys), 30)
    }))
})

describe("Clients of one's own", () => {
  it.live("duplicateCluster is an ordinary client of ioredis, closed with its scope; duplicate says what to do", () =>
    Effect.gen(function*() {
      const client = yield* connectTo(cluster())
      const scope = yield* Scope.make()
      const own = yield* Scope.provide(client.duplicateCluster(), scope)
      assert.strictEqual(yield* Effect.promise(() => own.set("duplicate", "1")), "OK")
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(own.status, "end")
      const error = yield* Effect.flip(client.duplicate())
      assert.deepInclude(error, { outcome: "NotSent" })
      assert.match(error.detail, /duplicateCluster/)
    }))

  it.live("reserveFor has a connection to the server of a key, where it may block and watch", () =>
    Effect.gen(function*() {
      const client = yield* connectTo(cluster())
      for (const key of yield* keyAtEach(cluster(), "reserved")) {
        yield* Effect.scoped(Effect.gen(function*() {
          const own = yield* client.reserveFor(key)
          const waits = yield* Effect.forkChild(
            own.use("blpop", (redis) => redis.blpop(key, 5), { timeout: "6 seconds" })
          )
          yield* client.use("rpush", (redis) => redis.rpush(key, "1"))
          assert.deepStrictEqual(yield* Fiber.join(waits), [key, "1"])
        }))
      }
      const any = yield* client.reserve
      assert.strictEqual(yield* any.use("ping", (redis) => redis.ping()), "PONG")
    }))

  it.live("leave no connection when the client's scope has closed", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const namespace = "leaves-none"
      const client = yield* Scope.provide(connectTo(cluster(), { namespace }), scope)
      yield* Scope.provide(client.reserve, scope)
      yield* Scope.provide(client.subscribe("channel", "c", { onMessage: () => {} }), scope)
      yield* Scope.provide(client.subscribe("shard", "s", { onMessage: () => {} }), scope)
      const ours = Effect.map(
        Effect.forEach(cluster().nodes, (node) => node.clients(({ name }) => name!.startsWith(`${namespace}:`))),
        (all) => all.flat().length
      )
      assert.isAbove(yield* ours, 3)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(yield* ours, 0)
    }))
})
