/** Services: which engine all services run on. */
import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Context, Effect, Layer, Logger, Option } from "effect"
import { DistributedLock } from "../src/DistributedLock.ts"
import { Health } from "../src/Health.ts"
import { JobQueue } from "../src/JobQueue.ts"
import { PubSub } from "../src/PubSub.ts"
import { RateLimiter } from "../src/RateLimiter.ts"
import { Redis } from "../src/Redis.ts"
import { RedisClient } from "../src/RedisClient.ts"
import { type Services, ServicesAuto, ServicesLive, ServicesMemory } from "../src/Services.ts"
import { freePort } from "./support/freePort.ts"
import { sharedRedisUrl, uniqueNamespace } from "./support/sharedRedis.ts"

/** Builds services where the environment is `env` and nothing else, with what they log. */
const build = <A, E>(services: Layer.Layer<A, E>, env: Record<string, string>) =>
  Effect.gen(function*() {
    const log: Array<string> = []
    const logger = Logger.make(({ logLevel, message }) => {
      log.push(`${logLevel} ${[message].flat().join(" ")}`)
    })
    const result = yield* Effect.result(Layer.build(services.pipe(
      Layer.provide(ConfigProvider.layer(ConfigProvider.fromEnvRecord(env))),
      Layer.provide(Logger.layer([logger]))
    )))
    return { result, log }
  })

const all = [Redis, PubSub, JobQueue, DistributedLock, RateLimiter, Health] as const

const has = (context: Context.Context<never>) =>
  all.filter((tag) => Option.isSome(Context.getOption(context, tag as Context.Key<any, unknown>))).map(({ key }) => key)

const keys = all.map(({ key }) => key)

const engineOf = (context: Context.Context<Services>) =>
  Effect.map(Context.get(context, Health).check, ({ components }) => components.redis.details.engine)

describe("all services at once", () => {
  it.live("are all there in memory, without a server", () =>
    Effect.gen(function*() {
      const context = yield* Layer.build(ServicesMemory)
      assert.deepStrictEqual(has(context), keys)
      assert.isTrue(Option.isNone(Context.getOption(context, RedisClient)))
      const redis = Context.get(context, Redis)
      yield* redis.set("greeting", "hello")
      assert.deepStrictEqual(yield* redis.get("greeting"), Option.some("hello"))
    }))

  it.live("are all there on Redis, with the connection, and share it", () =>
    Effect.gen(function*() {
      const namespace = uniqueNamespace()
      const { result } = yield* build(ServicesLive, { REDIS_URL: sharedRedisUrl(), SERVICE_NAME: namespace })
      if (result._tag === "Failure") return assert.fail(result.failure.message)
      assert.deepStrictEqual(has(result.success), keys)
      const client = Context.get(result.success, RedisClient)
      assert.strictEqual(client.namespace, namespace)
      const list = yield* client.use("client", (redis) => redis.call("CLIENT", "LIST"))
      assert.lengthOf(String(list).split("\n").filter((line) => line.includes(` name=${namespace}:`)), 1)
    }))
})

describe("services that choose their engine", () => {
  it.live("are in memory when no variable names a server, and the log says so", () =>
    Effect.gen(function*() {
      const { log, result } = yield* build(ServicesAuto, { REDIS_URL: "", REDIS_HOST: " ", SERVICE_NAME: "any" })
      if (result._tag === "Failure") return assert.fail(result.failure.message)
      assert.deepStrictEqual(has(result.success), keys)
      assert.strictEqual(yield* engineOf(result.success), "memory")
      assert.lengthOf(log, 1)
      assert.match(log[0]!, /^Info .*in memory.*REDIS_URL/)
    }))

  it.live("are on Redis when REDIS_URL names it, and the log says so without its address", () =>
    Effect.gen(function*() {
      const url = sharedRedisUrl()
      const { log, result } = yield* build(ServicesAuto, { REDIS_URL: url, SERVICE_NAME: uniqueNamespace() })
      if (result._tag === "Failure") return assert.fail(result.failure.message)
      assert.deepStrictEqual(has(result.success), keys)
      assert.strictEqual(yield* engineOf(result.success), "redis")
      assert.lengthOf(log, 1)
      assert.match(log[0]!, /^Info .*on Redis/)
      assert.notInclude(log[0]!, url)
    }))

  it.live("are on Redis when REDIS_HOST names it", () =>
    Effect.gen(function*() {
      const { hostname, port } = new URL(sharedRedisUrl())
      const { result } = yield* build(ServicesAuto, {
        REDIS_HOST: hostname,
        REDIS_PORT: port,
        SERVICE_NAME: uniqueNamespace()
      })
      if (result._tag === "Failure") return assert.fail(result.failure.message)
      assert.strictEqual(yield* engineOf(result.success), "redis")
    }))

  it.live.each<[string, Record<string, string>]>([
    ["REDIS_PASSWORD", { REDIS_PASSWORD: "hunter2", SERVICE_NAME: "any" }],
    ["REDIS_PORT", { REDIS_PORT: "6380" }],
    ["REDIS_TLS", { REDIS_TLS: "true" }],
    ["REDIS_URL", { REDIS_URL: "http://user:hunter2@example.com" }],
    ["REDIS_URL", { REDIS_URL: "hunter2" }],
    ["REDIS_PORT", { REDIS_HOST: "127.0.0.1", REDIS_PORT: "hunter2" }],
    ["REDIS_PORT", { REDIS_PORT: "hunter2" }]
  ])("fail when %s is malformed, and name it but not its value: %o", ([name, env]) =>
    Effect.gen(function*() {
      const { log, result } = yield* build(ServicesAuto, env)
      if (result._tag === "Success") return assert.fail("They fell back")
      assert.strictEqual(result.failure._tag, "ConfigError")
      assert.include(result.failure.message, name)
      assert.notInclude(`${result.failure.message} ${JSON.stringify(result.failure)} ${log.join()}`, "hunter2")
    }))

  it.live("fail when the server that is named is not there: they do not fall back", () =>
    Effect.gen(function*() {
      const port = yield* Effect.promise(() => freePort())
      const { result } = yield* build(ServicesAuto, { REDIS_URL: `redis://127.0.0.1:${port}` })
      if (result._tag === "Success") return assert.fail("They fell back")
      assert.strictEqual(result.failure._tag, "RedisError")
    }))
})
