/** What every Redis engine must do. */
import { assert, layer as suite } from "@effect/vitest"
import { Duration, Effect, type Layer, Option, Redacted, Schema, Stream } from "effect"
import { inspect } from "node:util"
import { Redis } from "../../src/Redis.ts"
import type { Elapse } from "../support/elapse.ts"
import { badInput } from "./badInput/redis.ts"

const User = Schema.Struct({ name: Schema.String, since: Schema.Date })
const ada = { name: "Ada", since: new Date("2026-01-02T03:04:05.678Z") }

const longest = "ä".repeat(256)

/** What every `Redis` engine must do. `elapse` lets that engine's clock run on. */
export const redis = <E>(
  engine: string,
  layer: Layer.Layer<Redis, E>,
  elapse: Elapse,
  options?: { readonly excludeTestServices?: boolean }
) =>
  suite(layer, options)(`Redis (${engine})`, (it) => {
    it.effect("gets what was set", () =>
      Effect.gen(function*() {
        const redis = yield* Redis
        assert.deepStrictEqual(yield* redis.get("get:none"), Option.none())
        for (const value of ["Ada", "", "ä\0\r\n \u{1F600}", "x".repeat(100_000)]) {
          assert.isTrue(yield* redis.set("get:one", value))
          assert.deepStrictEqual(yield* redis.get("get:one"), Option.some(value))
        }
      }))

    it.effect("takes keys and fields of any characters as they are", () =>
      Effect.gen(function*() {
        const redis = yield* Redis
        for (const name of ["a:b", "{tag}:1", "*?[a]\\", " ", "\r\n", "__proto__", "ä\u{1F600}", longest]) {
          yield* redis.set(`any:${name}`.slice(0, 256), name)
          assert.deepStrictEqual(yield* redis.get(`any:${name}`.slice(0, 256)), Option.some(name))
          yield* redis.hset("any-hash", { [name]: name })
          assert.deepStrictEqual(yield* redis.hget("any-hash", name), Option.some(name))
        }
        assert.lengthOf(Object.keys(yield* redis.hgetAll("any-hash")), 8)
      }))

    it.effect("gets many, in their order", () =>
      Effect.gen(function*() {
        const redis = yield* Redis
        yield* redis.set("mget:1", "one")
        yield* redis.hset("mget:hash", { a: "b" })
        const values = yield* redis.mget(["mget:0", "mget:1", "mget:hash", "mget:1"])
        assert.deepStrictEqual(values, [Option.none(), Option.some("one"), Option.none(), Option.some("one")])
        assert.deepStrictEqual(yield* redis.mget([]), [])
      }))

    it.effect("sets only what is absent, or only what is present", () =>
      Effect.gen(function*() {
        const redis = yield* Redis
        assert.isFalse(yield* redis.set("if", "1", { onlyIf: "present" }))
        assert.deepStrictEqual(yield* redis.get("if"), Option.none())
        assert.isTrue(yield* redis.set("if", "2", { onlyIf: "absent" }))
        assert.isFalse(yield* redis.set("if", "3", { onlyIf: "absent" }))
        assert.isTrue(yield* redis.set("if", "4", { onlyIf: "present" }))
        assert.deepStrictEqual(yield* redis.get("if"), Option.some("4"))
      }))

    it.effect("lets a value go after its ttl", () =>
      Effect.gen(function*() {
        const redis = yield* Redis
        yield* redis.set("ttl:value", "x", { ttl: "60 millis" })
        yield* redis.hset("ttl:hash", { a: "1" })
        assert.isTrue(yield* redis.expire("ttl:hash", "60 millis"))
        assert.isTrue(yield* redis.exists("ttl:value"))
        yield* elapse("70 millis")
        assert.isFalse(yield* redis.exists("ttl:value"))
        assert.deepStrictEqual(yield* redis.get("ttl:value"), Option.none())
        assert.deepStrictEqual(yield* redis.hgetAll("ttl:hash"), {})
        assert.isFalse(yield* redis.expire("ttl:value", "1 second"))
        assert.isTrue(yield* redis.set("ttl:value", "y", { onlyIf: "absent" }))
      }))

    it.effect("tells how long a key stays", () =>
      Effect.gen(function*() {
        const redis = yield* Redis
        const left = Effect.map(redis.ttl("left"), Option.map(Duration.toMillis))
        assert.deepStrictEqual(yield* left, Option.none())
        yield* redis.set("left", "x")
        assert.deepStrictEqual(yield* left, Option.some(Infinity))
        yield* redis.expire("left", "1 hour")
        const hour = Option.getOrThrow(yield* left)
        assert.isTrue(hour > 3_590_000 && hour <= 3_600_000, String(hour))
        assert.isTrue(yield* redis.persist("left"))
        assert.isFalse(yield* redis.persist("left"))
        assert.deepStrictEqual(yield* left, Option.some(Infinity))
      }))

    it.effect("keeps a key's time when asked to, and when counting", () =>
      Effect.gen(function*() {
        const redis = yield* Redis
        const isKept = Effect.map(redis.ttl("kept"), (ttl) => Duration.isFinite(Option.getOrThrow(ttl)))
        yield* redis.set("kept", "1", { ttl: "1 hour" })
        yield* redis.set("kept", "2", { keepTtl: true })
        assert.isTrue(yield* isKept)
        yield* redis.incr("kept")
        assert.isTrue(yield* isKept)
        assert.deepStrictEqual(yield* redis.get("kept"), Option.some("3"))
        yield* redis.set("kept", "4")
        assert.isFalse(yield* isKept)
      }))

    it.effect("deletes one or many, and tells how many there were", () =>
      Effect.gen(function*() {
        const redis = yield* Redis
        yield* redis.set("del:1", "1")
        yield* redis.hset("del:2", { a: "1" })
        yield* redis.set("del:3", "3")
        assert.strictEqual(yield* redis.del("del:1"), 1)
        assert.strictEqual(yield* redis.del(["del:1", "del:2", "del:3", "del:3"]), 2)
        assert.strictEqual(yield* redis.del([]), 0)
        assert.isFalse(yield* redis.exists("del:3"))
      }))

    it.effect("gets and deletes in one", () =>
      Effect.gen(function*() {
        const redis = yield* Redis
        yield* redis.set("getdel", "x")
        assert.deepStrictEqual(yield* redis.getDel("getdel"), Option.some("x"))
        assert.deepStrictEqual(yield* redis.getDel("getdel"), Option.none())
      }))

    it.effect("counts", () =>
      Effect.gen(function*() {
        const redis = yield* Redis
        assert.strictEqual(yield* redis.incr("count"), 1)
        assert.strictEqual(yield* redis.incrBy("count", 41), 42)
        assert.strictEqual(yield* redis.decr("count"), 41)
        assert.strictEqual(yield* redis.incrBy("count", -50), -9)
        assert.deepStrictEqual(yield* redis.get("count"), Option.some("-9"))
        assert.deepStrictEqual(
          yield* Effect.all(Array.from({ length: 100 }, () => redis.incr("crowd")), { concurrency: "unbounded" }),
          Array.from({ length: 100 }, (_, i) => i + 1)
        )
      }))

    it.effect("counts only what is a whole number of 64 bits", () =>
      Effect.gen(function*() {
        const redis = yield* Redis
        for (const value of ["x", "", "1.5", " 1", "01", "-0", "+1", "9223372036854775808", "9223372036854775807"]) {
          yield* redis.set("odd", value)
          const error = yield* Effect.flip(redis.incr("odd"))
          assert.deepInclude(error, { _tag: "RedisError", reason: "reply", outcome: "Rejected" }, value)
          assert.deepStrictEqual(yield* redis.get("odd"), Option.some(value))
        }
        yield* redis.set("odd", "9223372036854775806")
        yield* redis.incr("odd")
        assert.deepStrictEqual(yield* redis.get("odd"), Option.some("9223372036854775807"))
      }))

    it.effect("keeps hashes", () =>
      Effect.gen(function*() {
        const redis = yield* Redis
        assert.strictEqual(yield* redis.hset("hash", { a: "1", b: "2" }), 2)
        assert.strictEqual(yield* redis.hset("hash", { b: "3", c: "" }), 1)
        assert.strictEqual(yield* redis.hset("hash", {}), 0)
        assert.deepStrictEqual(yield* redis.hgetAll("hash"), { a: "1", b: "3", c: "" })
        assert.deepStrictEqual(yield* redis.hget("hash", "b"), Option.some("3"))
        assert.deepStrictEqual(yield* redis.hget("hash", "d"), Option.none())
        assert.strictEqual(yield* redis.hincrBy("hash", "a", 41), 42)
        assert.strictEqual(yield* redis.hincrBy("hash", "n", -1), -1)
        assert.deepInclude(yield* Effect.flip(redis.hincrBy("hash", "c", 1)), { reason: "reply" })
        assert.strictEqual(yield* redis.hdel("hash", "a"), 1)
        assert.strictEqual(yield* redis.hdel("hash", ["a", "b", "c", "n"]), 3)
        assert.isFalse(yield* redis.exists("hash"))
        assert.deepStrictEqual(yield* redis.hgetAll("hash"), {})
      }))

    it.effect("tells when a key holds another type", () =>
      Effect.gen(function*() {
        const redis = yield* Redis
        yield* redis.set("type:text", "1")
        yield* redis.hset("type:hash", { a: "1" })
        const wrong: ReadonlyArray<Effect.Effect<unknown, unknown>> = [
          redis.get("type:hash"),
          redis.getDel("type:hash"),
          redis.incr("type:hash"),
          redis.hget("type:text", "a"),
          redis.hgetAll("type:text"),
          redis.hset("type:text", { a: "1" }),
          redis.hdel("type:text", "a"),
          redis.hincrBy("type:text", "a", 1)
        ]
        for (const each of wrong) {
          const error = yield* Effect.flip(each)
          assert.deepInclude(error, { _tag: "RedisError", reason: "wrong-type", outcome: "Rejected" })
        }
        yield* redis.set("type:hash", "now a text")
        assert.deepStrictEqual(yield* redis.get("type:hash"), Option.some("now a text"))
      }))

    it.effect("stores values as JSON, as their schema says", () =>
      Effect.gen(function*() {
        const redis = yield* Redis
        assert.deepStrictEqual(yield* redis.getJson("json", User), Option.none())
        assert.isTrue(yield* redis.setJson("json", User, ada, { ttl: "1 hour" }))
        assert.isFalse(yield* redis.setJson("json", User, ada, { onlyIf: "absent" }))
        assert.deepStrictEqual(yield* redis.getJson("json", User), Option.some(ada))
        assert.deepStrictEqual(
          yield* redis.get("json"),
          Option.some(`{"name":"Ada","since":"2026-01-02T03:04:05.678Z"}`)
        )
      }))

    it.effect("hands over what does not decode as an error, hidden from logs", () =>
      Effect.gen(function*() {
        const redis = yield* Redis
        for (const text of ["{\"name\":\"s3cr3t\"}", "s3cr3t", "", "null", "[\"s3cr3t\"]"]) {
          yield* redis.set("undecodable", text)
          const error = yield* Effect.flip(redis.getJson("undecodable", User))
          assert.isTrue(error._tag === "Undecodable")
          if (error._tag !== "Undecodable") continue
          assert.strictEqual(error.key, "undecodable")
          assert.strictEqual(Redacted.value(error.payload), text)
          assert.notInclude(`${inspect(error)} ${String(error)} ${error.message} ${error.problem}`, "s3cr3t")
        }
      }))

    it.effect("takes what a schema throws for a value that does not fit it", () =>
      Effect.gen(function*() {
        const redis = yield* Redis
        const throwing = Schema.Any.check(Schema.makeFilter((value) => {
          if (value === "throw") throw new Error("a bug in a schema")
          return true
        }))
        for (const value of ["throw", 1n, undefined]) {
          const error = yield* Effect.flip(redis.setJson("throwing", throwing, value))
          assert.deepInclude(error, { _tag: "InvalidInput", input: "value" })
        }
        yield* redis.set("throwing", "\"throw\"")
        assert.strictEqual((yield* Effect.flip(redis.getJson("throwing", throwing)))._tag, "Undecodable")
      }))

    it.effect("refuses what its schema does not take, and stores nothing", () =>
      Effect.gen(function*() {
        const redis = yield* Redis
        const Short = Schema.String.check(Schema.isMaxLength(3))
        const error = yield* Effect.flip(redis.setJson("short", Short, "s3cr3t"))
        assert.deepInclude(error, { _tag: "InvalidInput", input: "value" })
        assert.notInclude(`${inspect(error)} ${error.message}`, "s3cr3t")
        assert.isFalse(yield* redis.exists("short"))
      }))

    it.effect("finds keys by pattern", () =>
      Effect.gen(function*() {
        const redis = yield* Redis
        const names = Array.from({ length: 250 }, (_, i) => `scan:${i}`)
        for (const name of names) yield* redis.set(name, "x")
        yield* redis.hset("scan:hash", { a: "1" })
        yield* redis.set("scan:gone", "x", { ttl: "1 millis" })
        yield* redis.set("scan*", "x")
        yield* elapse("5 millis")
        // A key may come twice while the server's table grows, and other suites let it grow.
        const scan = (pattern: string, count?: number) =>
          Effect.map(Stream.runCollect(redis.scan(pattern, { count })), (keys) => [...new Set(keys)].toSorted())
        assert.deepStrictEqual(yield* scan("scan:*", 10), [...names, "scan:hash"].toSorted())
        assert.deepStrictEqual(yield* scan("scan:24?"), names.slice(240))
        assert.deepStrictEqual(yield* scan("scan:[1-3]"), names.slice(1, 4))
        assert.deepStrictEqual(yield* scan("scan\\*"), ["scan*"])
        assert.deepStrictEqual(yield* scan("nothing:*"), [])
        const all = yield* Stream.runCollect(redis.scan())
        assert.includeMembers(all, [...names, "scan*"])
        assert.lengthOf(yield* Stream.runCollect(Stream.take(redis.scan("scan:*"), 3)), 3)
      }))

    it.effect("spells a key as the server has it", () =>
      Effect.gen(function*() {
        const redis = yield* Redis
        assert.match(redis.key("user", "123"), /^[^:]+:user:123$/)
      }))

    it.effect.each<[string, (redis: Redis["Service"]) => Effect.Effect<unknown, unknown>, string]>([
      ["an empty key", (redis) => redis.get(""), "key"],
      ["a key with half a surrogate pair", (redis) => redis.set("a\uD800", "x"), "key"],
      ["a key that is too long", (redis) => redis.get(`${longest}x`), "key"],
      ["an empty key among others", (redis) => redis.mget(["a", ""]), "key"],
      ["an empty key to delete", (redis) => redis.del(["a", ""]), "key"],
      ["too many keys", (redis) => redis.mget(Array.from({ length: 10_001 }, () => "a")), "keys"],
      ["a value with half a surrogate pair", (redis) => redis.set("a", "\uDC00x"), "value"],
      ["a value that is too large", (redis) => redis.set("a", "ä".repeat(8 * 1024 * 1024 + 1)), "value"],
      ["a ttl of zero", (redis) => redis.set("a", "x", { ttl: 0 }), "ttl"],
      ["a negative ttl", (redis) => redis.set("a", "x", { ttl: -1 }), "ttl"],
      ["an infinite ttl", (redis) => redis.set("a", "x", { ttl: Infinity }), "ttl"],
      ["a ttl that is no number", (redis) => redis.expire("a", NaN), "ttl"],
      ["a ttl and to keep it", (redis) => redis.set("a", "x", { ttl: "1 second", keepTtl: true }), "ttl"],
      ["a fraction to add", (redis) => redis.incrBy("a", 0.5), "increment"],
      ["a number to add that is not exact", (redis) => redis.hincrBy("a", "b", 2 ** 53), "increment"],
      ["an empty field", (redis) => redis.hget("a", ""), "field"],
      ["a field with half a surrogate pair", (redis) => redis.hset("a", { "\uD800": "x" }), "field"],
      ["a field that is too long", (redis) => redis.hdel("a", `${longest}x`), "field"],
      ["an empty pattern", (redis) => Stream.runDrain(redis.scan("")), "pattern"],
      ["a count of zero", (redis) => Stream.runDrain(redis.scan("*", { count: 0 })), "count"]
    ])("refuses %s", ([, run, input]) =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(Effect.flatMap(Redis, run))
        assert.deepInclude(error, { _tag: "InvalidInput", input })
      }))

    badInput(it)
  })
