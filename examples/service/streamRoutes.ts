/** `GET /events?tenant=` and `GET /ws?tenant=`: a tenant's status changes as they happen, in whichever process. */
import { Effect, Layer, Schema, Stream } from "effect"
import { HttpRouter, HttpServerRequest, HttpServerResponse } from "effect/http"
import { Socket } from "effect/socket"
import { ServiceConfig } from "./config.ts"
import { Tenant } from "./domain.ts"
import { Problem } from "./problems.ts"
import { type Notice, watchTenant } from "./statusFeed.ts"
import { Stopping } from "./stopping.ts"

/** A quiet stream tells proxies, and whoever reads it, that it is alive. */
const heartbeat = { event: "heartbeat" } as const

/** The notices and heartbeats for whoever asked, until the server stops. Listens already when it returns. */
const notices = Effect.gen(function*() {
  const { tenant } = yield* HttpServerRequest.schemaSearchParams(Schema.Struct({ tenant: Tenant }), { errors: "all" })
  const { heartbeat: every } = yield* ServiceConfig
  const stopping = yield* Stopping
  return (yield* watchTenant(tenant)).pipe(
    // The connection stays broken, or the program ends: so does the response, and the client comes again.
    Stream.catch(() => Stream.empty),
    Stream.merge(Stream.map(Stream.drop(Stream.tick(every), 1), () => heartbeat), { haltStrategy: "left" }),
    Stream.haltWhen(stopping.begun)
  )
})

const toServerSentEvent = (notice: Notice | typeof heartbeat): string =>
  notice.event === "heartbeat" ? ": heartbeat\n\n" : `event: ${notice.event}\ndata: ${JSON.stringify(notice.data)}\n\n`

const serverSentEvents = Effect.gen(function*() {
  const frames = Stream.map(yield* notices, toServerSentEvent)
  return HttpServerResponse.stream(Stream.encodeText(Stream.prepend(frames, [": listening\n\n"])), {
    contentType: "text/event-stream",
    headers: { "cache-control": "no-store", "x-accel-buffering": "no" }
  })
})

const webSocket = Effect.gen(function*() {
  const request = yield* HttpServerRequest.HttpServerRequest
  if (request.headers["upgrade"]?.toLowerCase() !== "websocket") {
    return yield* new Problem({
      status: 426,
      title: "No WebSocket",
      detail: "This address speaks WebSocket only",
      headers: { connection: "upgrade", upgrade: "websocket" }
    })
  }
  const stream = yield* notices
  const socket = yield* request.upgrade
  // From here on there is nobody to answer a problem to: a client that goes away is none.
  yield* Effect.scoped(Effect.gen(function*() {
    const { write } = yield* socket.writer
    const { pull } = yield* socket.reader
    const send = Stream.runForEach(
      Stream.prepend(stream, [{ event: "listening" } as const]),
      (notice) => write(JSON.stringify(notice))
    )
    // What the client says is of no interest, but its going is.
    yield* Effect.raceFirst(send, Effect.forever(pull))
    yield* write(new Socket.CloseEvent(1001, "The server stops"))
  })).pipe(Effect.ignore)
  return HttpServerResponse.empty()
})

/** Routes for those who watch. */
export const streamRoutes = Layer.mergeAll(
  HttpRouter.add("GET", "/events", serverSentEvents),
  HttpRouter.add("GET", "/ws", webSocket)
)
