// Health over HTTP: liveness, readiness, and a report with reasons.
import { NodeHttpServer } from "@effect/platform-node"
import { Console, Effect, Layer, Logger } from "effect"
import { Health, ServicesAuto } from "effect-redis-kit"
import { healthRoutes } from "effect-redis-kit/http"
import { HttpRouter, HttpServer } from "effect/http"
import { createServer } from "node:http"

const program = Effect.gen(function*() {
  const health = yield* Health
  const report = yield* health.check
  yield* Console.log("status:", report.status, report.reasons.length === 0 ? "" : report.reasons)
  yield* Console.log("ready:", (yield* health.ready).status)

  const { address } = yield* HttpServer.HttpServer
  const port = address._tag === "UnixPathAddress" ? 0 : address.port
  for (const path of ["/health/redis", "/health/live", "/health/ready"]) {
    const response = yield* Effect.promise(() => fetch(`http://127.0.0.1:${port}${path}`))
    const { status } = yield* Effect.promise(() => response.json() as Promise<{ status: string }>)
    yield* Console.log(`GET ${path}:`, response.status, status)
  }
})

const main = HttpRouter.serve(healthRoutes, { disableListenLog: true, disableLogger: true }).pipe(
  Layer.provideMerge(NodeHttpServer.layer(() => createServer(), { host: "127.0.0.1", port: 0 })),
  Layer.provideMerge(ServicesAuto),
  // The log goes to stderr, so that stdout is the same on every engine.
  Layer.provideMerge(Layer.succeed(Logger.LogToStderr, true))
)

await Effect.runPromise(Effect.provide(program, main))
