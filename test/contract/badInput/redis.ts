/** The contract of Redis: what is refused, and what comes through as it is. */
import { assert, type Vitest } from "@effect/vitest"
import { type Duration, Effect, Option, Schema, Stream } from "effect"
import * as fc from "fast-check"
import { Redis } from "../../../src/Redis.ts"
import {
  anyJson,
  anyKinds,
  anyName,
  assertUnpolluted,
  badKinds,
  depthOf,
  depths,
  differentNames,
  forAll,
  Kinds,
  nested,
  noDuration,
  noName,
  notWhole,
  refuses,
  Tree,
  tree
} from "./support.ts"

const maxBytes = 16 * 1024 * 1024

export const badInput = (it: Vitest.MethodsNonLive<Redis>): void => {
  it.effect("refuses whatever is no key, field or pattern", () =>
    Effect.gen(function*() {
      const redis = yield* Redis
      yield* forAll(noName, 100, (name) =>
        Effect.gen(function*() {
          const asKey: ReadonlyArray<Effect.Effect<unknown, { readonly _tag: string }>> = [
            redis.get(name),
            redis.mget(["a", name]),
            redis.set(name, "x"),
            redis.getDel(name),
            redis.del(name),
            redis.del(["a", name]),
            redis.exists(name),
            redis.expire(name, 1),
            redis.persist(name),
            redis.ttl(name),
            redis.incr(name),
            redis.incrBy(name, 1),
            redis.decr(name),
            redis.getJson(name, Schema.Unknown),
            redis.setJson(name, Schema.Unknown, 1),
            redis.hget(name, "a"),
            redis.hset(name, { a: "x" }),
            redis.hgetAll(name),
            redis.hdel(name, "a"),
            redis.hincrBy(name, "a", 1)
          ]
          for (const each of asKey) yield* refuses("key", each, name)
          const asField: ReadonlyArray<Effect.Effect<unknown, { readonly _tag: string }>> = [
            redis.hget("bad", name),
            redis.hset("bad", { a: "x", [name]: "x" }),
            redis.hdel("bad", name),
            redis.hdel("bad", ["a", name]),
            redis.hincrBy("bad", name, 1)
          ]
          for (const each of asField) yield* refuses("field", each, name)
          yield* refuses("pattern", Stream.runDrain(redis.scan(name)), name)
        }))
      assert.isFalse(yield* redis.exists("bad"))
    }))

  it.effect("keeps keys and fields apart that differ in anything", () =>
    Effect.gen(function*() {
      const redis = yield* Redis
      yield* forAll(differentNames(10), 100, (names) =>
        Effect.gen(function*() {
          const values = names.map((name, i): [string, string] => [name, `${i}`])
          for (const [name, value] of values) yield* redis.set(name, value)
          assert.deepStrictEqual(yield* redis.mget(names), values.map(([, value]) => Option.some(value)))
          assert.strictEqual(yield* redis.del(names), names.length)
          assert.strictEqual(yield* redis.hset("apart", Object.fromEntries(values)), names.length)
          for (const [name, value] of values) {
            assert.deepStrictEqual(yield* redis.hget("apart", name), Option.some(value))
          }
          assert.deepStrictEqual(new Map(Object.entries(yield* redis.hgetAll("apart"))), new Map(values))
          assert.strictEqual(yield* redis.hdel("apart", names), names.length)
        }))
      assertUnpolluted()
    }))

  it.effect("refuses whatever is no ttl, increment or count, and changes nothing", () =>
    Effect.gen(function*() {
      const redis = yield* Redis
      yield* redis.set("kept", "1")
      const noTtl = fc.oneof(noDuration, fc.constantFrom<Duration.Input>(0, "0 seconds", 1e300, "36501 days"))
      yield* forAll(noTtl, 60, (ttl) =>
        Effect.gen(function*() {
          yield* refuses("ttl", redis.set("kept", "2", { ttl }), ttl)
          yield* refuses("ttl", redis.setJson("kept", Schema.Unknown, 2, { ttl }), ttl)
          yield* refuses("ttl", redis.expire("kept", ttl), ttl)
        }))
      yield* forAll(notWhole(Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER), 60, (by) =>
        Effect.gen(function*() {
          yield* refuses("increment", redis.incrBy("kept", by), by)
          yield* refuses("increment", redis.hincrBy("kept", "a", by), by)
        }))
      yield* forAll(notWhole(1, 10_000), 60, (count) =>
        refuses("count", Stream.runDrain(redis.scan("*", { count })), count))
      assert.deepStrictEqual(yield* redis.get("kept"), Option.some("1"))
    }))

  it.effect("takes many or none, and not one more than it says", () =>
    Effect.gen(function*() {
      const redis = yield* Redis
      const names = Array.from({ length: 10_000 }, (_, i) => `many ${i}`)
      const fields = Object.fromEntries(names.map((name) => [name, "x"]))
      assert.strictEqual(yield* redis.hset("many", fields), 10_000)
      assert.lengthOf(yield* redis.mget(names), 10_000)
      assert.strictEqual(yield* redis.del(names), 0)
      yield* refuses("fields", redis.hset("many", { ...fields, more: "x" }))
      yield* refuses("fields", redis.hdel("many", [...names, "more"]))
      yield* refuses("keys", redis.mget([...names, "more"]))
      yield* refuses("keys", redis.del([...names, "more"]))
      assert.strictEqual(yield* redis.hdel("many", names), 10_000)
      assert.deepStrictEqual(
        [yield* redis.mget([]), yield* redis.del([]), yield* redis.hset("many", {}), yield* redis.hdel("many", [])],
        [[], 0, 0, 0]
      )
    }))

  it.effect("carries any text, as large as it may be, and nothing larger", () =>
    Effect.gen(function*() {
      const redis = yield* Redis
      yield* forAll(fc.string({ unit: "binary" }), 100, (text) =>
        Effect.gen(function*() {
          yield* redis.set("text", text)
          assert.deepStrictEqual(yield* redis.get("text"), Option.some(text))
          yield* redis.hset("texts", { text })
          assert.deepStrictEqual(yield* redis.hget("texts", "text"), Option.some(text))
        }))
      for (const unit of ["x", "ä"]) {
        const full = unit.repeat(maxBytes / Buffer.byteLength(unit))
        yield* redis.set("text", full)
        assert.isTrue(Option.getOrThrow(yield* redis.get("text")) === full)
        yield* refuses("value", redis.set("text", `${full}x`))
        yield* refuses("value", redis.hset("texts", { text: `${full}x` }))
        const quoted = full.slice(0, maxBytes / Buffer.byteLength(unit) - 2)
        yield* redis.setJson("text", Schema.String, quoted)
        assert.isTrue(Option.getOrThrow(yield* redis.getJson("text", Schema.String)) === quoted)
        yield* refuses("value", redis.setJson("text", Schema.String, full))
      }
      for (const half of ["\ud800", "a\udc00"]) {
        yield* refuses("value", redis.set("text", half))
        yield* refuses("value", redis.hset("texts", { text: half }))
      }
      yield* redis.del(["text", "texts"])
    }))

  it.effect("carries any JSON as data, whatever its keys are", () =>
    Effect.gen(function*() {
      const redis = yield* Redis
      yield* forAll(anyJson, 200, (value) =>
        Effect.gen(function*() {
          yield* redis.setJson("json", Schema.Unknown, value)
          assert.deepStrictEqual(yield* redis.getJson("json", Schema.Unknown), Option.some(value))
        }))
      yield* redis.set("json", `{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}},"a":-0}`)
      const read = Option.getOrThrow(yield* redis.getJson("json", Schema.Record(Schema.String, Schema.Unknown)))
      assert.deepStrictEqual(Object.keys(read), ["__proto__", "constructor", "a"])
      assertUnpolluted()
    }))

  it.effect("carries what a schema makes JSON of, and refuses what it cannot", () =>
    Effect.gen(function*() {
      const redis = yield* Redis
      yield* forAll(anyKinds, 100, (value) =>
        Effect.gen(function*() {
          yield* redis.setJson("kinds", Kinds, value)
          assert.deepStrictEqual(yield* redis.getJson("kinds", Kinds), Option.some(value))
        }))
      for (const value of badKinds) yield* refuses("value", redis.setJson("kinds", Kinds, value))
      // JSON has one zero.
      yield* redis.setJson("kinds", Schema.Number, -0)
      assert.isTrue(Object.is(Option.getOrThrow(yield* redis.getJson("kinds", Schema.Number)), 0))
      for (const number of ["1e400", "-1e400"]) {
        yield* redis.set("kinds", number)
        for (const schema of [Schema.Finite, Schema.Number, Schema.Unknown]) {
          assert.strictEqual((yield* Effect.flip(redis.getJson("kinds", schema)))._tag, "Undecodable")
        }
      }
    }))

  it.effect("reads what it wrote, however deeply it is nested, or says that it is too deep", () =>
    Effect.gen(function*() {
      const redis = yield* Redis
      let refused = 0
      for (const levels of depths) {
        for (const [schema, value] of [[Schema.Unknown, nested(levels)], [Tree, tree(levels)]] as const) {
          yield* redis.del("deep")
          const stored = yield* Effect.result(redis.setJson("deep", schema as Schema.Codec<unknown>, value))
          if (stored._tag === "Success") {
            const read = Option.getOrThrow(yield* redis.getJson("deep", schema as Schema.Codec<unknown>))
            if (schema === Schema.Unknown) assert.strictEqual(depthOf(read), levels)
          } else {
            refused++
            assert.include(stored.failure, {
              _tag: "InvalidInput",
              input: "value",
              problem: "it is nested too deeply"
            })
            assert.isFalse(yield* redis.exists("deep"))
          }
        }
        yield* redis.set("deep", `${`{"c":[`.repeat(levels)}${"]}".repeat(levels)}`)
        const read = yield* Effect.result(redis.getJson("deep", Tree))
        if (read._tag === "Failure") {
          assert.include(read.failure, { _tag: "Undecodable", problem: "it is nested too deeply" })
        }
      }
      assert.isAbove(refused, 0)
    }))

  it.effect("tells what is wrong with a value without a part of it, its keys included", () =>
    Effect.gen(function*() {
      const redis = yield* Redis
      const Scores = Schema.Struct({ scores: Schema.Record(Schema.String, Schema.Struct({ n: Schema.Finite })) })
      yield* redis.set("secret", `{"scores":{"s3cr3t":{"n":"s3cr3t"}}}`)
      const unread = yield* Effect.flip(redis.getJson("secret", Scores))
      const unwritten = yield* Effect.flip(
        redis.setJson("secret", Scores, { scores: { s3cr3t: { n: "s3cr3t" as unknown as number } } })
      )
      for (const error of [unread, unwritten]) {
        assert.include(error.message, `["scores"]["…"]["n"]`)
        assert.notInclude(error.message, "s3cr3t")
      }
    }))

  it.effect("takes a pattern of any characters for one", () =>
    Effect.gen(function*() {
      const redis = yield* Redis
      yield* forAll(anyName, 50, (pattern) => Stream.runDrain(redis.scan(pattern)))
    }))
}
