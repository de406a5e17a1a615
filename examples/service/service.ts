/** The service's two halves, which run in one process or in many. */
import { NodeHttpServer } from "@effect/platform-node"
import { Effect, Layer } from "effect"
import { JobWorker } from "effect-redis-kit"
import { healthRoutes } from "effect-redis-kit/http"
import { HttpIncomingMessage, HttpRouter } from "effect/http"
import { createServer } from "node:http"
import { appointmentRoutes } from "./appointmentRoutes.ts"
import { ServiceConfig } from "./config.ts"
import { jobRoutes } from "./jobRoutes.ts"
import { Mailer } from "./mailer.ts"
import { notifyHandler } from "./notify.ts"
import { problemAnswers } from "./problems.ts"
import { queueRoutes } from "./queueRoutes.ts"
import { statusForwarder } from "./statusForwarder.ts"
import { Stopping } from "./stopping.ts"
import { streamRoutes } from "./streamRoutes.ts"

const routes = Layer.mergeAll(
  appointmentRoutes,
  jobRoutes,
  queueRoutes,
  streamRoutes,
  healthRoutes,
  problemAnswers
)

const server = Layer.unwrap(
  Effect.map(ServiceConfig, ({ host, port }) => {
    const node = createServer()
    // When requests have had their time: what is still open then, would keep the server waiting.
    const cutOff = Layer.effectDiscard(
      Effect.addFinalizer(() => Effect.sync(() => node.closeAllConnections()))
    )
    return Layer.provideMerge(
      cutOff,
      NodeHttpServer.layer(() => node, {
        host,
        port,
        gracefulShutdownTimeout: "2 seconds",
        websocket: { maxPayload: 1024 }
      })
    )
  })
)

const bodyLimit = Layer.effect(
  HttpIncomingMessage.MaxBodySize,
  Effect.map(ServiceConfig, ({ bodyLimit }) => bodyLimit)
)

// Built last, so that it is the first to end: streams end, and then the server, which waits for them.
const endStreams = Layer.effectDiscard(
  Effect.flatMap(Stopping, ({ begin }) => Effect.addFinalizer(() => begin))
)

/** Takes requests, and publishes what becomes of them. */
export const api = endStreams.pipe(
  Layer.provideMerge(HttpRouter.serve(routes, { disableListenLog: true, disableLogger: true })),
  Layer.provide(Stopping.layer),
  Layer.provide(statusForwarder),
  Layer.provide(bodyLimit),
  Layer.provideMerge(server)
)

/** Tells patients. */
export const worker = Layer.unwrap(
  Effect.map(ServiceConfig, ({ concurrency }) =>
    // Whoever stops this process gives it 10 seconds, for all that it has to end.
    JobWorker.layer([notifyHandler], { concurrency, shutdown: "5 seconds" }))
).pipe(Layer.provideMerge(Mailer.layer))
