/** Health tells the truth in time when Redis is away, hangs, loads or is cut off. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer } from "effect"
import { Health, type HealthOptions, type HealthReport } from "../../src/Health.ts"
import { RedisClient } from "../../src/RedisClient.ts"
import type { RedisSettings } from "../../src/RedisConfig.ts"
import { elapseLive } from "../support/elapse.ts"
import { Proxy } from "../support/proxy.ts"
import { RedisServer } from "../support/redisServer.ts"

const deadlineMillis = 150

const on = (settings: RedisSettings, options: HealthOptions = {}) =>
  Health.layer({ cache: 0, deadline: deadlineMillis, ...options }).pipe(
    Layer.provideMerge(RedisClient.layer({ namespace: "health", ...settings }))
  )

/** Checks until it is so, for 5 seconds. */
const until = (
  check: Effect.Effect<HealthReport>,
  isSo: (report: HealthReport) => boolean
): Effect.Effect<HealthReport> =>
  Effect.gen(function*() {
    const last = performance.now() + 5000
    let report = yield* check
    while (!isSo(report)) {
      if (performance.now() > last) assert.fail(`Not within 5 seconds: ${JSON.stringify(report)}`)
      yield* elapseLive("10 millis")
      report = yield* check
    }
    return report
  })

const isHealthy = ({ status }: HealthReport) => status === "healthy"

/** It has answered before a command would have given up. */
const soon = <A>(effect: Effect.Effect<A>): Effect.Effect<A> =>
  Effect.timeoutOrElse(effect, {
    duration: deadlineMillis + 2000,
    orElse: () => Effect.sync(() => assert.fail("The report waited for the command's own deadline"))
  })

describe("Health when Redis is away", () => {
  it.live("a server that stopped is unhealthy in time, the process stays alive, and all is well when it is back", () =>
    Effect.scoped(Effect.gen(function*() {
      const server = yield* RedisServer.start()
      yield* Effect.gen(function*() {
        const { check, live, ready } = yield* Health
        yield* until(check, isHealthy)
        yield* server.kill()
        const report = yield* soon(check)
        assert.strictEqual(report.status, "unhealthy")
        assert.strictEqual(report.components.redis.details.connection, "disconnected")
        assert.include(report.reasons[0], "redis: there is no connection")
        assert.notInclude(JSON.stringify(report), "127.0.0.1")
        assert.strictEqual((yield* live).status, "alive")
        assert.strictEqual((yield* soon(ready)).status, "unready")
        yield* server.restart
        const after = yield* until(check, isHealthy)
        assert.strictEqual(after.components.redis.details.reconnects, 1)
        assert.strictEqual((yield* ready).status, "ready")
      }).pipe(Effect.provide(on({ url: server.url })))
    })))

  it.live("a server that hangs is unhealthy within the deadline, keeps its connection, and recovers", () =>
    Effect.scoped(Effect.gen(function*() {
      const server = yield* RedisServer.start()
      yield* Effect.gen(function*() {
        const { check, live } = yield* Health
        const redis = yield* RedisClient
        yield* redis.use("set", (client) => client.set("health:before", "1"))
        yield* server.pause
        const report = yield* soon(check)
        assert.strictEqual(report.status, "unhealthy")
        assert.strictEqual(report.components.redis.details.connection, "ready")
        assert.deepStrictEqual(report.reasons, [`redis: no answer within ${deadlineMillis} ms`])
        assert.strictEqual((yield* live).status, "alive")
        assert.strictEqual((yield* soon(check)).status, "unhealthy")
        yield* server.resume
        const after = yield* until(check, isHealthy)
        // A check that was too early to despair has cost nobody the connection.
        assert.strictEqual(after.components.redis.details.reconnects, 0)
      }).pipe(Effect.ensuring(server.resume), Effect.provide(on({ url: server.url })))
    })))

  it.live("a connection that is dead without a word is replaced at the command's deadline, by checks alone", () =>
    Effect.scoped(Effect.gen(function*() {
      const server = yield* RedisServer.start()
      const proxy = yield* Proxy.start(server)
      yield* Effect.gen(function*() {
        const { check } = yield* Health
        yield* until(check, isHealthy)
        yield* proxy.swallow("both")
        assert.strictEqual((yield* soon(check)).status, "unhealthy")
        yield* until(check, ({ components }) => components.redis.details.connection !== "ready")
        yield* proxy.restore
        yield* until(check, isHealthy)
      }).pipe(Effect.provide(on({ url: proxy.url, commandTimeout: "300 millis", connectTimeout: "300 millis" })))
    })))

  it.live("a connection that breaks during a check costs a reconnect, not the health", () =>
    Effect.scoped(Effect.gen(function*() {
      const server = yield* RedisServer.start()
      const proxy = yield* Proxy.start(server)
      yield* Effect.gen(function*() {
        const { check } = yield* Health
        yield* until(check, isHealthy)
        yield* proxy.cut
        const report = yield* check
        assert.strictEqual(report.status, "healthy")
        assert.strictEqual(report.components.redis.details.reconnects, 1)
        assert.strictEqual(report.components.redis.details.info, "answered")
      }).pipe(Effect.provide(on({ url: proxy.url }, { deadline: "2 seconds" })))
    })))

  it.live("a program that starts without a server reports that, and then that it is there", () =>
    Effect.scoped(Effect.gen(function*() {
      const server = yield* RedisServer.start()
      yield* server.kill()
      yield* Effect.gen(function*() {
        const { check, live } = yield* Health
        assert.strictEqual((yield* live).status, "alive")
        assert.strictEqual((yield* soon(check)).status, "unhealthy")
        yield* server.restart
        yield* until(check, isHealthy)
      }).pipe(Effect.provide(on({ url: server.url, connect: "background" })))
    })))

  it.live("a password that is refused is told apart from a server that is away", () =>
    Effect.scoped(Effect.gen(function*() {
      const server = yield* RedisServer.start({ password: "right" })
      yield* Effect.gen(function*() {
        const { check } = yield* Health
        const report = yield* soon(check)
        assert.deepStrictEqual(report.reasons, ["redis: it does not accept the user or the password"])
        assert.strictEqual(report.status, "unhealthy")
      }).pipe(
        Effect.provide(on({ url: `redis://:wrong-one@127.0.0.1:${server.port}`, connect: "background" }))
      )
    })))

  it.live("a server that loads its data is unhealthy and says so, on an old connection and on a new one", () =>
    Effect.scoped(Effect.gen(function*() {
      const server = yield* RedisServer.start({
        args: ["--rdbcompression", "no", "--loading-process-events-interval-bytes", "1024"]
      })
      yield* Effect.gen(function*() {
        const { check } = yield* Health
        yield* server.cli("DEBUG", "POPULATE", 100, "key", 2000)
        yield* server.cli("CONFIG", "SET", "key-load-delay", 10_000)
        const reload = yield* Effect.forkChild(server.cli("DEBUG", "RELOAD"))
        const isLoading = ({ components }: HealthReport) => components.redis.details.loading === true
        const old = yield* until(check, isLoading)
        assert.strictEqual(old.status, "unhealthy")
        assert.deepStrictEqual(old.reasons, ["redis: it is loading its data"])
        const fresh = yield* Effect.provide(
          Effect.flatMap(Health, (health) => soon(health.check)),
          on({ url: server.url, connect: "background" })
        )
        assert.deepStrictEqual(fresh.reasons, ["redis: it is loading its data"])
        yield* server.cli("CONFIG", "SET", "key-load-delay", 0)
        yield* Fiber.join(reload)
        yield* until(check, isHealthy)
      }).pipe(Effect.provide(on({ url: server.url })))
    })))

  it.live("subscriptions that are interrupted degrade it, until they are back", () =>
    Effect.scoped(Effect.gen(function*() {
      const server = yield* RedisServer.start()
      yield* Effect.gen(function*() {
        const { check, ready } = yield* Health
        const redis = yield* RedisClient
        const allowClients = (count: number) =>
          redis.use("config", (client) => client.config("SET", "maxclients", count))
        yield* redis.subscribe("channel", "health:news", { onMessage: () => {} })
        yield* until(check, isHealthy)
        // The connection for commands stays; the one for subscriptions finds no place to come back to.
        yield* allowClients(1)
        yield* redis.use("client", (client) => client.call("CLIENT", "KILL", "TYPE", "pubsub"))
        const report = yield* until(check, ({ status }) => status === "degraded")
        assert.strictEqual(report.components["subscriptions"]?.status, "unhealthy")
        assert.include(report.reasons, `subscriptions: no answer within ${deadlineMillis} ms`)
        assert.notProperty((yield* soon(ready)).required, "subscriptions")
        yield* allowClients(100)
        const after = yield* until(check, isHealthy)
        assert.strictEqual(after.components["subscriptions"]?.details["reconnects"], 1)
      }).pipe(Effect.scoped, Effect.provide(on({ url: server.url })))
    })))
})
