/** Calls of one turn of the event loop, and the ways over which they go. */
import { Effect, Layer, type Scope } from "effect"
import { RedisClient } from "../../src/RedisClient.ts"
import type { RedisError } from "../../src/RedisError.ts"
import type { RedisSettings } from "../../src/RedisSettings.ts"
import { certificates } from "./certificates.ts"
import { RedisServer } from "./redisServer.ts"

export const connect = (settings: RedisSettings): Effect.Effect<RedisClient["Service"], RedisError, Scope.Scope> =>
  Effect.flatMap(Layer.build(RedisClient.layer(settings)), (context) => Effect.provide(RedisClient, context))

export const transports = ["TCP", "TLS"] as const

/** A server, and the way to it. */
export const startOver = (
  transport: (typeof transports)[number]
): Effect.Effect<{ readonly server: RedisServer; readonly settings: RedisSettings }, never, Scope.Scope> =>
  Effect.gen(function*() {
    if (transport === "TCP") {
      const server = yield* RedisServer.start()
      return { server, settings: { url: server.url } }
    }
    const certs = yield* certificates
    const server = yield* RedisServer.start({ tls: { certs } })
    return { server, settings: { url: server.tlsUrl!, tls: { ca: certs.ca } } }
  })

/** Makes all calls, in their order, in the turn in which it is run. */
export const inOneTurn = <const Calls extends ReadonlyArray<Effect.Effect<unknown, unknown>>>(calls: Calls) =>
  Effect.all(calls, { concurrency: "unbounded" })
