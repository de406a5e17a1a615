/** The health routes, over real HTTP. */
import { NodeHttpServer } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { type Duration, Effect, Layer } from "effect"
import { HttpClient, HttpRouter } from "effect/http"
import { Health } from "../../src/Health.ts"
import { healthRoutes } from "../../src/http/index.ts"
import { RedisClient } from "../../src/RedisClient.ts"
import { RedisServer } from "../support/redisServer.ts"

/** The routes on a real server, and a client that knows its address. */
const serve = <E>(health: Layer.Layer<Health, E>) =>
  HttpRouter.serve(healthRoutes, { disableListenLog: true, disableLogger: true }).pipe(
    Layer.provide(health),
    Layer.provideMerge(NodeHttpServer.layerTest)
  )

const get = (path: string) =>
  Effect.gen(function*() {
    const response = yield* HttpClient.get(path)
    assert.strictEqual(response.headers["cache-control"], "no-store")
    assert.match(response.headers["content-type"] ?? "", /^application\/json/)
    return { status: response.status, body: (yield* response.json) as Record<string, any> }
  })

const onServer = (server: RedisServer, deadline: Duration.Input = "1 second") =>
  Health.layer({ deadline, cache: 0 }).pipe(
    Layer.provide(RedisClient.layer({ url: server.url, namespace: "health" })),
    serve
  )

/** Each answer takes 150 ms as long as it is not. */
const isReady = Effect.gen(function*() {
  for (let tries = 0; (yield* get("/health/ready")).status !== 200; tries++) assert.isBelow(tries, 50)
})

const isoTime = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/

describe("the health routes", () => {
  it.live("answer 200 in memory, with status and time first", () =>
    Effect.gen(function*() {
      const { body, status } = yield* get("/health/redis")
      assert.strictEqual(status, 200)
      assert.deepStrictEqual(Object.keys(body).slice(0, 2), ["status", "timestamp"])
      assert.strictEqual(body["status"], "healthy")
      assert.match(body["timestamp"], isoTime)
      assert.deepStrictEqual(body["components"], {
        redis: { status: "healthy", reasons: [], details: { engine: "memory" } }
      })
      const live = yield* get("/health/live")
      assert.strictEqual(live.status, 200)
      assert.strictEqual(live.body["status"], "alive")
      assert.match(live.body["timestamp"], isoTime)
      const ready = yield* get("/health/ready")
      assert.strictEqual(ready.status, 200)
      assert.strictEqual(ready.body["status"], "ready")
    }).pipe(Effect.provide(serve(Health.layerMemory))))

  it.live("answer HEAD with the status and no body, and other methods with 404", () =>
    Effect.gen(function*() {
      for (const path of ["/health/redis", "/health/live", "/health/ready"] as const) {
        const head = yield* HttpClient.head(path)
        assert.strictEqual(head.status, 200)
        assert.strictEqual(yield* head.text, "")
        assert.strictEqual((yield* HttpClient.post(path)).status, 404)
      }
    }).pipe(Effect.provide(serve(Health.layerMemory))))

  it.live("answer 200 when Redis is degraded, with the reason", () =>
    Effect.scoped(Effect.gen(function*() {
      const server = yield* RedisServer.start({ args: ["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"] })
      yield* Effect.gen(function*() {
        const { body, status } = yield* get("/health/redis")
        assert.strictEqual(status, 200)
        assert.strictEqual(body["status"], "degraded")
        assert.match(body["reasons"][0], /allkeys-lru/)
        assert.strictEqual((yield* get("/health/ready")).status, 200)
      }).pipe(Effect.provide(onServer(server)))
    })))

  it.live("answer 503 when Redis is away, while the process is alive, and give nothing away", () =>
    Effect.scoped(Effect.gen(function*() {
      const server = yield* RedisServer.start({ password: "hunter2" })
      yield* Effect.gen(function*() {
        yield* isReady
        yield* server.kill()
        const { body, status } = yield* get("/health/redis")
        assert.strictEqual(status, 503)
        assert.strictEqual(body["status"], "unhealthy")
        const ready = yield* get("/health/ready")
        assert.strictEqual(ready.status, 503)
        assert.strictEqual(ready.body["status"], "unready")
        assert.deepStrictEqual(ready.body["required"], { redis: "unhealthy" })
        assert.strictEqual((yield* get("/health/live")).status, 200)
        assert.notMatch(JSON.stringify([body, ready.body]), /hunter2|127\.0\.0\.1|redis:\/\//)
        yield* server.restart
        yield* isReady
      }).pipe(Effect.provide(onServer(server, "150 millis")))
    })))
})
