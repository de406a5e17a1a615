/** Locks, limits, health and its routes, to be opened and closed again and again. */
import { NodeHttpServer } from "@effect/platform-node"
import { Context, Effect, Layer, Option, Stream } from "effect"
import { HttpRouter } from "effect/http"
import { createServer, get } from "node:http"
import type { AddressInfo } from "node:net"
import { DistributedLock, DistributedLockLive } from "../../src/DistributedLock.ts"
import { Health, HealthLive } from "../../src/Health.ts"
import { healthRoutes } from "../../src/http/index.ts"
import * as RateLimit from "../../src/RateLimit.ts"
import { RateLimiter, RateLimiterLive } from "../../src/RateLimiter.ts"
import { RedisClient } from "../../src/RedisClient.ts"
import { buildAnew, openClient } from "./connections.ts"
import type { Thing } from "./cycles.ts"

/** A service on a connection, both shared by all cycles. */
const openService = <I, S, E>(url: string, tag: Context.Key<I, S>, live: Layer.Layer<I, E, RedisClient>) =>
  Effect.gen(function*() {
    const client = yield* openClient(url)
    const context = yield* Layer.build(Layer.provide(live, Layer.succeed(RedisClient, client)))
    return { client, service: Context.get(context, tag) }
  })

/** Waits in line once: what hears the wake-ups stays until the layer closes. */
const openLocks = (url: string) =>
  Effect.tap(openService(url, DistributedLock, DistributedLockLive), ({ service }) =>
    Effect.gen(function*() {
      yield* service.acquire("busy")
      yield* Effect.flip(service.acquire("busy", { wait: "5 millis" }))
    }))

/** Locks that somebody holds, or waits for. */
const stillHeld = (locks: DistributedLock["Service"], names: ReadonlyArray<string>) =>
  Effect.map(
    Effect.forEach(names, (name) => Effect.map(locks.inspect(name), (status) => ({ name, status }))),
    (all) => all.filter(({ status }) => Option.isSome(status)).map(({ name }) => name)
  )

const numbered = (name: string, count: number) => Array.from({ length: count }, (_, i) => `${name} ${i}`)

export const locks = (url: string): ReadonlyArray<Thing> => [
  {
    name: "DistributedLock.layer, with a lock",
    open: Effect.map(openService(url, DistributedLock, DistributedLockLive), ({ client, service }) => ({
      client,
      held: stillHeld(service, numbered("lock", 10)),
      cycle: (number) =>
        Effect.flatMap(
          buildAnew(Layer.provide(DistributedLockLive, Layer.succeed(RedisClient, client))),
          (context) => Context.get(context, DistributedLock).acquire(`lock ${number % 10}`)
        )
    }))
  },
  {
    name: "acquire, tryAcquire and withLock",
    open: Effect.map(openLocks(url), ({ client, service }) => ({
      client,
      held: stillHeld(service, [...numbered("contended", 4), ...numbered("tried", 2), ...numbered("work", 4)]),
      cycle: (number) =>
        Effect.gen(function*() {
          yield* service.acquire(`contended ${number % 4}`)
          yield* Effect.ignore(service.tryAcquire(`tried ${number % 2}`))
          yield* Effect.yieldNow.pipe(service.withLock(`work ${number % 4}`))
        })
    }))
  },
  {
    name: "acquire and withLock, of a lock that stays busy",
    open: Effect.map(openLocks(url), ({ client, service }) => ({
      client,
      cycle: (number) =>
        Effect.flip(
          number % 2 === 0
            ? service.acquire("busy", { wait: "2 millis" })
            : service.withLock("busy", { wait: "2 millis" })(Effect.void)
        )
    }))
  }
]

const limit = RateLimit.fixedWindow({ name: "hour", limit: 1, window: "1 hour" })

/** One request over a connection of its own. */
const request = (port: number) =>
  Effect.callback<number | undefined, Error>((resume) => {
    const sent = get({ port, path: "/health/ready", agent: false }, (response) => {
      response.resume().on("end", () => resume(Effect.succeed(response.statusCode)))
    })
    sent.on("error", (error) => resume(Effect.fail(error)))
    return Effect.sync(() => sent.destroy())
  })

export const others = (url: string): ReadonlyArray<Thing> => [
  {
    name: "RateLimiter.layer",
    open: Effect.map(openClient(url), (client) => ({
      client,
      cycle: () =>
        Effect.flatMap(
          buildAnew(Layer.provide(RateLimiterLive, Layer.succeed(RedisClient, client))),
          (context) => Context.get(context, RateLimiter).check(limit, "anyone")
        )
    }))
  },
  {
    name: "limit, waiting for a turn that does not come",
    open: Effect.map(openService(url, RateLimiter, RateLimiterLive), ({ client, service }) => ({
      client,
      cycle: (number) =>
        Effect.timeoutOption(
          Effect.void.pipe(service.limit(limit, `one of ${number % 10}`, { wait: "2 hours" })),
          "2 millis"
        )
    }))
  },
  {
    name: "Health.layer",
    open: Effect.map(openClient(url), (client) => ({
      client,
      cycle: () =>
        Effect.flatMap(
          buildAnew(Layer.provide(HealthLive, Layer.succeed(RedisClient, client))),
          (context) => Context.get(context, Health).check
        )
    }))
  },
  {
    name: "watch of Health",
    open: Effect.map(openService(url, Health, HealthLive), ({ client, service }) => ({
      client,
      cycle: () => Stream.runDrain(Stream.take(service.watch("1 millis"), 2))
    }))
  },
  {
    name: "health routes on a server",
    open: Effect.map(openClient(url), (client) => ({
      client,
      cycle: () =>
        Effect.gen(function*() {
          const server = createServer()
          yield* buildAnew(
            HttpRouter.serve(healthRoutes, { disableListenLog: true, disableLogger: true }).pipe(
              Layer.provide([HealthLive, NodeHttpServer.layerServer(() => server, { port: 0 })]),
              Layer.provide(Layer.succeed(RedisClient, client))
            )
          )
          yield* request((server.address() as AddressInfo).port)
        })
    }))
  }
]
