/** Health: its contract on both engines, and what it sees on a server. */
import { assert, describe, it } from "@effect/vitest"
import { Config, ConfigProvider, Deferred, Effect, Exit, Fiber, Layer, Result, Scope } from "effect"
import { TestClock } from "effect/testing"
import { mkdir } from "node:fs/promises"
import { Health, HealthLive, type HealthOptions } from "../src/Health.ts"
import { type Probe, registerProbe } from "../src/internal/probes.ts"
import { RedisClient } from "../src/RedisClient.ts"
import type { RedisSettings } from "../src/RedisConfig.ts"
import { health } from "./contract/health.ts"
import { elapseLive } from "./support/elapse.ts"
import { RedisServer, type RedisServerOptions } from "./support/redisServer.ts"
import { sharedRedisUrl, uniqueNamespace } from "./support/sharedRedis.ts"

const client = (settings: RedisSettings = {}) =>
  Layer.suspend(() => RedisClient.layer({ url: sharedRedisUrl(), namespace: uniqueNamespace(), ...settings }))

const onRedis = (options: HealthOptions = {}, settings: RedisSettings = {}) =>
  Health.layer({ cache: 0, ...options }).pipe(Layer.provideMerge(client(settings)))

health("memory", Health.layerMemory, TestClock.adjust("1 second"))

health(
  "redis",
  Health.layer({ cache: "50 millis" }).pipe(Layer.provide(client())),
  elapseLive("60 millis"),
  { excludeTestServices: true }
)

/** A server of the test's own, and Health on it. */
const withServer = <A, E>(
  test: (server: RedisServer) => Effect.Effect<A, E, Health | RedisClient>,
  options: RedisServerOptions = {},
  settings: (server: RedisServer) => RedisSettings = ({ url }) => ({ url })
) =>
  Effect.scoped(Effect.gen(function*() {
    const server = yield* RedisServer.start(options)
    return yield* Effect.provide(test(server), onRedis({}, settings(server)))
  }))

const hits = (reports: ReadonlyArray<string>, pattern: RegExp) => reports.filter((reason) => pattern.test(reason))

describe("what Health tells of a server", () => {
  it.live("its version, role, memory, clients, persistence and latency", () =>
    withServer(({ version }) =>
      Effect.gen(function*() {
        const { components: { redis, subscriptions } } = yield* (yield* Health).check
        const { details } = redis
        assert.strictEqual(details.version, version.join("."))
        assert.strictEqual(details.info, "answered")
        assert.strictEqual(details.connection, "ready")
        assert.strictEqual(details.reconnects, 0)
        assert.strictEqual(details.role, "master")
        assert.strictEqual(details.replicas, 0)
        assert.isAbove(details.usedMemoryBytes ?? 0, 100_000)
        assert.strictEqual(details.maxMemoryBytes, 0)
        assert.strictEqual(details.evictionPolicy, "noeviction")
        assert.strictEqual(details.loading, false)
        assert.strictEqual(details.appendOnlyFile, true)
        assert.strictEqual(details.persistence, "ok")
        assert.isAtLeast(details.connectedClients ?? 0, 1)
        assert.isAbove(details.maxClients ?? 0, 1)
        assert.isAtLeast(details.latencyMillis ?? -1, 0)
        assert.deepStrictEqual(subscriptions?.details, { connected: false, reconnects: 0, channels: 0, patterns: 0 })
      }), { persistence: "aof-everysec" }))

  it.live("a policy that may evict any key degrades it, unless eviction is wanted", () =>
    withServer(({ url }) =>
      Effect.gen(function*() {
        const report = yield* (yield* Health).check
        assert.strictEqual(report.status, "degraded")
        assert.lengthOf(hits(report.reasons, /^redis: maxmemory-policy allkeys-lru .*any key/), 1)
        assert.strictEqual((yield* (yield* Health).ready).status, "ready")
        const wanted = yield* Effect.provide(
          Effect.flatMap(Health, ({ check }) => check),
          onRedis({ eviction: true }, { url })
        )
        assert.strictEqual(wanted.status, "healthy")
      }), { args: ["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"] }))

  it.live("a policy that may evict what expires degrades it", () =>
    withServer(() =>
      Effect.gen(function*() {
        const report = yield* (yield* Health).check
        assert.strictEqual(report.status, "degraded")
        assert.lengthOf(hits(report.reasons, /volatile-ttl .*keys that expire/), 1)
      }), { args: ["--maxmemory", "100mb", "--maxmemory-policy", "volatile-ttl"] }))

  it.live("a policy evicts nothing where memory has no limit", () =>
    withServer(() =>
      Effect.gen(function*() {
        assert.strictEqual((yield* (yield* Health).check).status, "healthy")
      }), { args: ["--maxmemory-policy", "allkeys-lru"] }))

  it.live("memory that is nearly used up degrades it", () =>
    withServer((server) =>
      Effect.gen(function*() {
        yield* server.cli("CONFIG", "SET", "maxmemory", "500kb")
        const report = yield* (yield* Health).check
        assert.strictEqual(report.status, "degraded")
        assert.lengthOf(hits(report.reasons, /\d+ % of maxmemory is used/), 1)
      })
    ))

  it.live("clients near the limit degrade it", () =>
    Effect.scoped(Effect.gen(function*() {
      const server = yield* RedisServer.start({ args: ["--maxclients", "4"] })
      const { url } = server
      const report = yield* Effect.gen(function*() {
        const redis = yield* RedisClient
        yield* redis.duplicate()
        return yield* (yield* Health).check
      }).pipe(Effect.scoped, Effect.provide(onRedis({ fill: 0.5 }, { url })))
      assert.lengthOf(hits(report.reasons, /50 % of maxclients is used/), 1)
      assert.strictEqual(report.status, "degraded")
    })))

  it.live("a background save that failed degrades it", () =>
    withServer((server) =>
      Effect.gen(function*() {
        yield* server.cli("SET", "any", "value")
        // A directory where the file should go.
        yield* Effect.promise(() => mkdir(`${server.directory}/dump.rdb`))
        yield* server.cli("BGSAVE")
        const { check } = yield* Health
        let report = yield* check
        const deadline = performance.now() + 5000
        while (report.status === "healthy" && performance.now() < deadline) {
          yield* elapseLive("20 millis")
          report = yield* check
        }
        assert.deepStrictEqual(report.reasons, ["redis: its last background save failed"])
        assert.strictEqual(report.components.redis.details.persistence, "failing")
      })
    ))

  it.live("a replica shows its role and link, and is degraded", () =>
    withServer((server) =>
      Effect.gen(function*() {
        const { check, ready } = yield* Health
        // A master that no one can reach.
        yield* server.cli("REPLICAOF", "127.0.0.1", 1)
        const { components: { redis }, status } = yield* check
        assert.strictEqual(status, "degraded")
        assert.strictEqual(redis.details.role, "replica")
        assert.strictEqual(redis.details.masterLink, "down")
        assert.deepStrictEqual(redis.reasons, [
          "it is a replica, which takes no writes",
          "its link to its master is down"
        ])
        assert.strictEqual((yield* ready).status, "ready")
        yield* server.cli("REPLICAOF", "NO", "ONE")
        assert.strictEqual((yield* check).status, "healthy")
      })
    ))

  it.live("one that forbids INFO is healthy, with less detail", () =>
    withServer(
      () =>
        Effect.gen(function*() {
          const report = yield* (yield* Health).check
          assert.strictEqual(report.status, "healthy")
          const { details } = report.components.redis
          assert.strictEqual(details.info, "forbidden")
          assert.strictEqual(details.version, undefined)
          assert.isAtLeast(details.latencyMillis ?? -1, 0)
        }),
      { acl: ["limited on >secret ~* &* +@all -info -config"] },
      ({ port }) => ({ url: `redis://limited:secret@127.0.0.1:${port}` })
    ))

  it.live("one that forbids PING has answered nevertheless", () =>
    withServer(
      () =>
        Effect.scoped(Effect.gen(function*() {
          const redis = yield* RedisClient
          yield* redis.subscribe("channel", "news", { onMessage: () => {} })
          const report = yield* (yield* Health).check
          assert.deepStrictEqual(report.reasons, [])
          assert.strictEqual(report.status, "healthy")
          assert.isAtLeast(report.components.redis.details.latencyMillis ?? -1, 0)
        })),
      { acl: ["limited on >secret ~* &* +@all -ping"] },
      ({ port }) => ({ url: `redis://limited:secret@127.0.0.1:${port}` })
    ))

  it.live("many checks at once ask it once", () =>
    withServer((server) =>
      Effect.gen(function*() {
        const calls = Effect.map(server.cli("INFO", "commandstats"), (stats) =>
          ["ping", "info"].map((command) =>
            Number(new RegExp(`cmdstat_${command}:calls=(\\d+)`).exec(String(stats))?.[1] ?? 0)
          ))
        const { check, ready } = yield* Health
        yield* server.cli("CONFIG", "RESETSTAT")
        yield* Effect.all(Array.from({ length: 50 }, (_, i) => i % 2 === 0 ? check : ready), {
          concurrency: "unbounded"
        })
        assert.deepStrictEqual(yield* calls, [1, 1])
        yield* check
        // Our own INFO counts, too: the first one of `calls`.
        assert.deepStrictEqual(yield* calls, [2, 3])
      })
    ))

  it.live("a check that was given up is not taken from the others", () =>
    Effect.gen(function*() {
      const { check } = yield* Health
      const redis = yield* RedisClient
      const gate = yield* Deferred.make<void>()
      const began = yield* Deferred.make<void>()
      yield* registerProbe(redis, {
        name: "gated",
        check: Deferred.succeed(began, undefined).pipe(
          Effect.andThen(Deferred.await(gate)),
          Effect.as({ status: "healthy" as const })
        )
      })
      const first = yield* Effect.forkChild(check)
      yield* Deferred.await(began)
      const second = yield* Effect.forkChild(check, { startImmediately: true })
      yield* Fiber.interrupt(first)
      yield* Deferred.succeed(gate, undefined)
      assert.strictEqual((yield* Fiber.join(second)).components["gated"]?.status, "healthy")
    }).pipe(Effect.scoped, Effect.provide(onRedis())))
})

describe("subscriptions in a report", () => {
  it.live("are counted while there are any", () =>
    Effect.gen(function*() {
      const redis = yield* RedisClient
      const { check } = yield* Health
      yield* Effect.scoped(Effect.gen(function*() {
        yield* redis.subscribe("channel", redis.key("news"), { onMessage: () => {} })
        yield* redis.subscribe("pattern", redis.key("n*"), { onMessage: () => {} })
        const { components, status } = yield* check
        assert.strictEqual(status, "healthy")
        assert.deepStrictEqual(components["subscriptions"]?.details, {
          connected: true,
          reconnects: 0,
          channels: 1,
          patterns: 1
        })
      }))
      const after = (yield* check).components["subscriptions"]
      assert.strictEqual(after?.status, "healthy")
      assert.strictEqual(after?.details["connected"], false)
    }).pipe(Effect.provide(onRedis())))
})

describe("probes of services", () => {
  const probe = (name: string, check: Probe["check"]): Probe => ({ name, check })

  it.live("stand in the report until their scope closes", () =>
    Effect.gen(function*() {
      const redis = yield* RedisClient
      const { check } = yield* Health
      const scope = yield* Scope.make()
      const waiting = { status: "degraded" as const, reasons: ["12 jobs wait"], details: { waiting: 12 } }
      yield* Scope.provide(registerProbe(redis, probe("queue emails", Effect.succeed(waiting))), scope)
      const during = yield* check
      assert.strictEqual(during.status, "degraded")
      assert.deepStrictEqual(during.reasons, ["queue emails: 12 jobs wait"])
      assert.deepStrictEqual(during.components["queue emails"], waiting)
      yield* Scope.close(scope, Exit.void)
      const after = yield* check
      assert.strictEqual(after.status, "healthy")
      assert.isUndefined(after.components["queue emails"])
    }).pipe(Effect.provide(onRedis())))

  it.live("belong to the connection that they were registered with", () =>
    Effect.gen(function*() {
      const { check } = yield* Health
      const other = yield* Layer.build(client())
      yield* Effect.flatMap(RedisClient, (redis) => registerProbe(redis, probe("elsewhere", Effect.never))).pipe(
        Effect.provide(other)
      )
      assert.isUndefined((yield* check).components["elsewhere"])
    }).pipe(Effect.scoped, Effect.provide(onRedis())))

  it.live("of one name all stand in the report", () =>
    Effect.gen(function*() {
      const redis = yield* RedisClient
      for (const name of ["queue", "redis", "queue", "__proto__"]) {
        yield* registerProbe(redis, probe(name, Effect.succeed({ status: "healthy" })))
      }
      const report = yield* (yield* Health).check
      assert.sameMembers(Object.keys(report.components), [
        "redis",
        "subscriptions",
        "queue",
        "redis 2",
        "queue 2",
        "__proto__"
      ])
    }).pipe(Effect.scoped, Effect.provide(onRedis())))

  it.live("that hang, fail or break are unhealthy, and do not hold up the report", () =>
    Effect.gen(function*() {
      const redis = yield* RedisClient
      yield* registerProbe(redis, probe("hangs", Effect.never))
      yield* registerProbe(
        redis,
        probe("fails", Effect.asVoid(redis.use("lpush", (client) => client.call("NOSUCH"))) as Effect.Effect<never>)
      )
      yield* registerProbe(redis, probe("breaks", Effect.die(new Error("secret"))))
      const report = yield* (yield* Health).check
      // A server that is slow on a busy machine is another matter.
      assert.sameMembers(hits(report.reasons, /^(?!redis:)/), [
        "hangs: no answer within 100 ms",
        "fails: it refuses commands (reply)",
        "breaks: its probe failed"
      ])
      assert.notInclude(JSON.stringify(report), "secret")
    }).pipe(Effect.scoped, Effect.provide(onRedis({ deadline: "100 millis" }))))

  it.live("that are required decide on readiness and make the whole unhealthy", () =>
    Effect.gen(function*() {
      const redis = yield* RedisClient
      const { check, ready } = yield* Health
      const lacking = yield* ready
      assert.strictEqual(lacking.status, "unready")
      assert.deepStrictEqual(lacking.reasons, ["worker: no service has registered it"])
      assert.deepStrictEqual(lacking.required, { redis: "healthy", worker: "unhealthy" })
      let status: "healthy" | "degraded" | "unhealthy" = "degraded"
      yield* registerProbe(redis, probe("worker", Effect.sync(() => ({ status }))))
      assert.strictEqual((yield* ready).status, "ready")
      status = "unhealthy"
      assert.strictEqual((yield* ready).status, "unready")
      assert.strictEqual((yield* check).status, "unhealthy")
    }).pipe(Effect.scoped, Effect.provide(onRedis({ required: ["redis", "worker"] }))))
})

describe("Health's options", () => {
  it.effect.each<[keyof HealthOptions | "required component", HealthOptions]>([
    ["deadline", { deadline: 0 }],
    ["deadline", { deadline: "Infinity" }],
    ["cache", { cache: "Infinity" }],
    ["cache", { cache: -1 }],
    ["cache", { cache: NaN }],
    ["fill", { fill: 0 }],
    ["fill", { fill: Number.NaN }],
    ["required component", { required: [""] }]
  ])("are refused when they make no sense: %s %o", ([input, options]) =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Layer.build(
        Health.layer(options).pipe(
          Layer.provide(Layer.succeed(RedisClient, {} as RedisClient["Service"]))
        )
      ))
      assert.strictEqual(error._tag, "InvalidInput")
      assert.strictEqual(error.input, input)
    }))

  it.live.each([["250 millis", undefined], ["0 millis", "InvalidInput"], ["soon", "ConfigError"]])(
    "can come from the configuration: a deadline of %s",
    ([deadline, error]) =>
      Effect.gen(function*() {
        const built = yield* Effect.result(Layer.build(
          Health.layerConfig({ deadline: Config.Duration("HEALTH_DEADLINE") }).pipe(
            Layer.provide(client()),
            Layer.provide(ConfigProvider.layer(ConfigProvider.fromEnvRecord({ HEALTH_DEADLINE: deadline ?? "" })))
          )
        ))
        assert.strictEqual(Result.isFailure(built) ? built.failure._tag : undefined, error)
      }).pipe(Effect.scoped)
  )

  it.live("have defaults", () =>
    Effect.gen(function*() {
      assert.strictEqual((yield* (yield* Health).check).status, "healthy")
    }).pipe(Effect.provide(HealthLive.pipe(Layer.provide(client())))))
})
