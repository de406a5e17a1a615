/** Health over HTTP, for load balancers, orchestrators and people. */
import { Effect, type Layer } from "effect"
import { HttpRouter, HttpServerResponse } from "effect/http"
import { Health } from "../Health.ts"

/**
 * Adds three routes to the router, for GET and HEAD:
 *
 * - `/health/redis`: the report; 200 when healthy or degraded, 503 when unhealthy
 * - `/health/live`: 200 as long as the process answers; restart it when this fails
 * - `/health/ready`: 200 when every required component works, else 503; send it no requests then
 *
 * The bodies hold no address and no credential, and are never cached.
 *
 * @example
 * ```ts
 * import { NodeHttpServer } from "@effect/platform-node"
 * import { Layer } from "effect"
 * import { HttpRouter } from "effect/http"
 * import { HealthLive, RedisLive } from "effect-redis-kit"
 * import { healthRoutes } from "effect-redis-kit/http"
 * import { createServer } from "node:http"
 *
 * export const main = HttpRouter.serve(healthRoutes).pipe(
 *   Layer.provide([HealthLive, NodeHttpServer.layer(() => createServer(), { port: 3000 })]),
 *   Layer.provide(RedisLive)
 * )
 * ```
 */
export const healthRoutes: Layer.Layer<never, never, HttpRouter.HttpRouter | Health> = HttpRouter.use((router) =>
  Effect.gen(function*() {
    const health = yield* Health
    yield* router.add(
      "GET",
      "/health/redis",
      Effect.map(health.check, (report) => answer(report.status !== "unhealthy", report))
    )
    yield* router.add("GET", "/health/live", Effect.map(health.live, (liveness) => answer(true, liveness)))
    yield* router.add(
      "GET",
      "/health/ready",
      Effect.map(health.ready, (readiness) => answer(readiness.status === "ready", readiness))
    )
  })
)

const answer = (ok: boolean, body: object) =>
  HttpServerResponse.jsonUnsafe(body, { status: ok ? 200 : 503, headers: { "cache-control": "no-store" } })
