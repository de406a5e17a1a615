/** Redis: its contract on both engines, that the engines agree, and what is true on a server only. */
import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Context, Duration, Effect, Layer, Option, Result, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as fc from "fast-check"
import { Redis, RedisLive } from "../src/Redis.ts"
import { RedisClient } from "../src/RedisClient.ts"
import { redis } from "./contract/redis.ts"
import { elapseLive, elapseTest } from "./support/elapse.ts"
import { Proxy } from "./support/proxy.ts"
import { RedisServer } from "./support/redisServer.ts"
import { sharedRedisUrl, uniqueNamespace } from "./support/sharedRedis.ts"

const onRedis = () => Redis.layer({ url: sharedRedisUrl(), namespace: uniqueNamespace() })

redis("memory", Redis.layerMemory, elapseTest)

redis("redis", onRedis(), elapseLive, { excludeTestServices: true })

/** One call, and what of its result both engines must agree on. */
type Step = (redis: Redis["Service"]) => Effect.Effect<unknown, unknown>

// What ioredis reads of larger numbers is not exact; `get` tells those.
const told = (sum: number) => Math.abs(sum) < 2 ** 52 ? sum : "large"

const step = fc.oneof(
  ...(() => {
    const key = fc.constantFrom("a", "b", "{c}:1", "ä*", "h")
    const field = fc.constantFrom("f", "__proto__", "1", "ö")
    const value = fc.oneof(
      fc.constantFrom("", "0", "-1", "01", "9223372036854775807", "-9223372036854775808", "{}"),
      fc.string({ unit: "grapheme", maxLength: 5 })
    )
    const by = fc.oneof(fc.constantFrom(1, -1, 0, Number.MAX_SAFE_INTEGER), fc.integer())
    // Long enough that nothing expires while both engines get there; the contract has what expires.
    const options = fc.record({
      ttl: fc.constant("1 hour" as const),
      keepTtl: fc.boolean(),
      onlyIf: fc.constantFrom("absent" as const, "present" as const)
    }, { requiredKeys: [] })
    const pattern = fc.oneof(
      fc.constantFrom("*", "?", "[ab]", "[^a]", "{c}*", "\\a", "[", "[^", "[a-", "[b-a]", "a**", "ä?", "??\\*", "\\"),
      fc.string({
        unit: fc.constantFrom("a", "b", "*", "?", "[", "]", "^", "\\", "ä"),
        minLength: 1,
        maxLength: 6
      })
    )
    const of = <Args extends Array<unknown>>(
      name: string,
      args: fc.Arbitrary<Args>,
      run: (redis: Redis["Service"], ...args: Args) => Effect.Effect<unknown, unknown>
    ) =>
      args.map((args): { readonly name: string; readonly run: Step } => ({
        name: `${name}(${args.map((arg) => JSON.stringify(arg)).join(", ")})`,
        run: (redis) => run(redis, ...args)
      }))
    return [
      of("get", fc.tuple(key), (redis, key) => redis.get(key)),
      of("mget", fc.tuple(fc.array(key)), (redis, keys) => redis.mget(keys)),
      of("set", fc.tuple(key, value, options), (redis, key, value, options) => redis.set(key, value, options)),
      of("getDel", fc.tuple(key), (redis, key) => redis.getDel(key)),
      of("del", fc.tuple(fc.array(key)), (redis, keys) => redis.del(keys)),
      of("exists", fc.tuple(key), (redis, key) => redis.exists(key)),
      of("expire", fc.tuple(key), (redis, key) => redis.expire(key, "2 hours")),
      of("persist", fc.tuple(key), (redis, key) => redis.persist(key)),
      of(
        "ttl",
        fc.tuple(key),
        (redis, key) => Effect.map(redis.ttl(key), Option.map((left) => Math.ceil(Duration.toHours(left))))
      ),
      of("incrBy", fc.tuple(key, by), (redis, key, by) => Effect.map(redis.incrBy(key, by), told)),
      of("hget", fc.tuple(key, field), (redis, key, field) => redis.hget(key, field)),
      of("hset", fc.tuple(key, field, value), (redis, key, field, value) => redis.hset(key, { [field]: value })),
      of(
        "hgetAll",
        fc.tuple(key),
        (redis, key) => Effect.map(redis.hgetAll(key), (fields) => new Map(Object.entries(fields)))
      ),
      of("hdel", fc.tuple(key, fc.array(field)), (redis, key, fields) => redis.hdel(key, fields)),
      of(
        "hincrBy",
        fc.tuple(key, field, by),
        (redis, key, field, by) => Effect.map(redis.hincrBy(key, field, by), told)
      ),
      of(
        "scan",
        fc.tuple(pattern),
        (redis, pattern) => Effect.map(Stream.runCollect(redis.scan(pattern)), (keys) => [...new Set(keys)].toSorted())
      )
    ]
  })()
)

/** What a caller can see of a result. */
const seen = (result: Result.Result<unknown, unknown>) => {
  if (Result.isSuccess(result)) return { value: result.success }
  const { _tag, input, outcome, reason } = result.failure as Record<string, unknown>
  return { _tag, input, outcome, reason }
}

/** Runs the steps on both, and compares what they give. */
const agree = async (
  real: Redis["Service"],
  memory: Redis["Service"],
  steps: ReadonlyArray<{ readonly name: string; readonly run: Step }>
) => {
  const both = [real, memory]
  const run = (step: Step, redis: Redis["Service"]) => Effect.runPromise(Effect.map(Effect.result(step(redis)), seen))
  for (const redis of both) await run((redis) => redis.del(["a", "b", "{c}:1", "ä*", "h"]), redis)
  const done: Array<string> = []
  for (const { name, run: step } of steps) {
    done.push(name)
    const [expected, actual] = await Promise.all(both.map((redis) => run(step, redis)))
    assert.deepStrictEqual(actual, expected, done.join("\n"))
  }
}

const engines = Effect.suspend(() =>
  Effect.all([
    Effect.map(Layer.build(onRedis()), Context.get(Redis)),
    Effect.map(Layer.build(Redis.layerMemory), Context.get(Redis))
  ])
)

describe("the engines of Redis", () => {
  it.live("agree on every step of any sequence of operations", () =>
    Effect.gen(function*() {
      const [real, memory] = yield* engines
      yield* Effect.promise(() =>
        fc.assert(
          fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 40 }), (steps) => agree(real, memory, steps)),
          { numRuns: 150 }
        )
      )
    }).pipe(Effect.scoped))
})

// A key may come twice while the server's table grows, and other suites let it grow.
const find = (redis: Redis["Service"], pattern: string) =>
  Effect.runPromise(Effect.map(Stream.runCollect(redis.scan(pattern)), (found) => [...new Set(found)].toSorted()))

describe("a pattern", () => {
  it.live("finds the same keys on both engines, whatever it is", () =>
    Effect.gen(function*() {
      const both = yield* engines
      const characters = ["a", "b", "c", "ä", "*", "?", "[", "]", "^", "-", "\\", "{", ":"]
      const keys = [
        ...characters,
        ...characters.flatMap((one) => characters.map((other) => one + other))
      ]
      for (const redis of both) yield* Effect.forEach(keys, (key) => redis.set(key, ""), { concurrency: 100 })
      const pattern = fc.oneof(
        fc.constantFrom(
          "[b-a]",
          "[c-ab]",
          "[",
          "[^",
          "[a-",
          "[a-]",
          "[]a]",
          "[^]",
          "\\",
          "?",
          "??",
          "ä",
          "[ä]",
          "[^ä]?"
        ),
        fc.string({ unit: fc.constantFrom(...characters), minLength: 1, maxLength: 7 })
      )
        // Whether bytes beyond ASCII come first or last in a range depends on the processor that the server runs on.
        .filter((pattern) => !/\[.*(ä-|-ä)/.test(pattern))
      yield* Effect.promise(() =>
        fc.assert(
          fc.asyncProperty(pattern, async (pattern) => {
            const [expected, actual] = await Promise.all(both.map((redis) => find(redis, pattern)))
            assert.deepStrictEqual(actual, expected)
          }),
          { numRuns: 400 }
        )
      )
    }).pipe(Effect.scoped))
})

describe("Redis in memory", () => {
  it.effect("is a store of its own for each layer that is built, and one for all who share it", () =>
    Effect.gen(function*() {
      const shared = yield* Layer.build(Redis.layerMemory)
      const set = Effect.flatMap(Redis, (redis) => redis.set("a", "1"))
      const get = Effect.flatMap(Redis, (redis) => redis.get("a"))
      yield* Effect.provide(set, shared)
      assert.deepStrictEqual(yield* Effect.provide(get, shared), Option.some("1"))
      assert.deepStrictEqual(yield* Effect.provide(get, Layer.fresh(Redis.layerMemory)), Option.none())
    }))

  it.effect("expires under TestClock, without waiting", () =>
    Effect.gen(function*() {
      const redis = yield* Redis
      yield* redis.set("a", "1", { ttl: "30 days" })
      yield* TestClock.adjust("29 days")
      assert.deepStrictEqual(Option.map(yield* redis.ttl("a"), Duration.toDays), Option.some(1))
      yield* TestClock.adjust("1 day")
      assert.deepStrictEqual(yield* redis.get("a"), Option.none())
    }).pipe(Effect.provide(Redis.layerMemory)))
})

describe("Redis on a server", () => {
  it.live("keeps its keys in the namespace, escaped, and sees no others", () =>
    Effect.gen(function*() {
      const namespace = `${uniqueNamespace()} *?[a]`
      yield* Effect.gen(function*() {
        const redis = yield* Redis
        const { key, namespace: spelled, use } = yield* RedisClient
        yield* redis.set("user:123", "Ada")
        assert.strictEqual(yield* use("get", (client) => client.get(`${spelled}:user:123`)), "Ada")
        assert.strictEqual(redis.key("user", "123"), `${spelled}:user:123`)
        assert.strictEqual(key("user", "123"), redis.key("user", "123"))
        // A pattern that was not escaped would find this one too.
        yield* use("set", (client) => client.set(`${namespace.replace("*?[a]", "xya")}:user:9`, "x"))
        assert.deepStrictEqual(new Set(yield* Stream.runCollect(redis.scan())), new Set(["user:123"]))
      }).pipe(Effect.provide(Redis.layer({ url: sharedRedisUrl(), namespace })))
    }))

  it.live("stands on a connection that is there already", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      const redis = yield* Redis
      yield* redis.set("a", "1")
      assert.strictEqual(yield* client.use("get", (raw) => raw.get(client.key("a"))), "1")
    }).pipe(
      Effect.provide(Layer.provideMerge(
        Redis.layerClient,
        RedisClient.layer({ url: sharedRedisUrl(), namespace: uniqueNamespace() })
      ))
    ))

  it.live("repeats a read whose reply was lost, but never a write", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      const proxy = yield* Proxy.start(server)
      yield* Effect.gen(function*() {
        const redis = yield* Redis
        yield* redis.set("a", "1")
        yield* proxy.dropNextReply("get")
        assert.deepStrictEqual(yield* redis.get("a"), Option.some("1"))
        yield* proxy.dropNextReply("scan")
        assert.deepStrictEqual(yield* Stream.runCollect(redis.scan()), ["a"])
        yield* proxy.dropNextReply("incrby")
        const error = yield* Effect.flip(redis.incr("a"))
        assert.deepInclude(error, { _tag: "RedisError", reason: "connection", outcome: "Unknown" })
        assert.deepStrictEqual(yield* redis.get("a"), Option.some("2"))
        const writes: ReadonlyArray<Effect.Effect<unknown, unknown>> = [
          redis.set("a", "3"),
          redis.set("a", "3", { ttl: "1 hour" }),
          redis.del("b"),
          redis.getDel("b"),
          redis.expire("a", "1 hour"),
          redis.persist("a"),
          redis.hset("h", { a: "1" }),
          redis.hdel("h", "a"),
          redis.hincrBy("h", "a", 1)
        ]
        for (const write of writes) {
          yield* redis.exists("a")
          yield* proxy.dropNextReply()
          assert.deepInclude(yield* Effect.flip(write), { reason: "connection", outcome: "Unknown" })
        }
      }).pipe(Effect.provide(Redis.layer({ url: proxy.url })))
    }).pipe(Effect.scoped))

  it.live("is read from the environment by RedisLive", () =>
    Effect.gen(function*() {
      const env = { REDIS_URL: sharedRedisUrl(), SERVICE_NAME: uniqueNamespace() }
      yield* Effect.gen(function*() {
        const redis = yield* Redis
        yield* redis.set("a", "1")
        assert.strictEqual((yield* RedisClient).namespace, env.SERVICE_NAME)
        assert.deepStrictEqual(new Set(yield* Stream.runCollect(redis.scan())), new Set(["a"]))
      }).pipe(Effect.provide(Layer.provide(RedisLive, ConfigProvider.layer(ConfigProvider.fromEnvRecord(env)))))
      const wrong = Layer.provide(
        RedisLive,
        ConfigProvider.layer(ConfigProvider.fromEnvRecord({ REDIS_URL: "nonsense" }))
      )
      const error = yield* Effect.flip(Effect.provide(Redis, wrong))
      assert.strictEqual(error._tag, "ConfigError")
    }))
})
