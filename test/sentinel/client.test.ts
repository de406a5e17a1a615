/** How a connection finds the master, whatever some of the Sentinels do. */
import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Effect, Fiber, Layer } from "effect"
import { createServer, type Socket } from "node:net"
import { Redis, RedisLive } from "../../src/Redis.ts"
import type { RedisSettings } from "../../src/RedisSettings.ts"
import { loneSentinel } from "../support/loneSentinel.ts"
import { eventually } from "../support/queuesOnRedis.ts"
import { RedisSentinel } from "../support/redisSentinel.ts"
import { RedisServer } from "../support/redisServer.ts"
import { build, type Client, through } from "../support/sentinelClient.ts"

const set = ({ use }: Client) => use("set", (redis) => redis.set("k", "v"), { repeatable: true })

const portOf = ({ raw }: Client) => raw.stream.remotePort

const refusal = (settings: RedisSettings) => Effect.flip(Effect.scoped(build(settings)))

/** Sentinels over a master alone: nothing fails over here. */
const start = RedisSentinel.start({ replicas: 0 })

const disconnectAll = (server: RedisServer) => server.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

/** Accepts, and never says a word. */
const mute = Effect.acquireRelease(
  Effect.promise(async () => {
    const sockets = new Set<Socket>()
    const server = createServer((socket) => {
      sockets.add(socket)
      socket.on("error", () => {}).on("close", () => sockets.delete(socket)).resume()
    })
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
    return { server, sockets, port: (server.address() as { port: number }).port }
  }),
  ({ server, sockets }) =>
    Effect.sync(() => {
      server.close()
      for (const socket of sockets) socket.destroy()
    })
)

describe("The master is found", () => {
  it.live("by a URL", () =>
    Effect.gen(function*() {
      const deployment = yield* start
      const client = yield* build({ url: deployment.url })
      assert.strictEqual(client.topology, "sentinel")
      yield* set(client)
      assert.strictEqual(yield* (yield* deployment.master).cli("GET", "k"), "v")
    }).pipe(Effect.scoped))

  it.live("by environment variables", () =>
    Effect.gen(function*() {
      const deployment = yield* RedisSentinel.start({ name: "my master", replicas: 0, password: "pw" })
      const context = yield* Layer.build(Layer.provide(
        RedisLive,
        ConfigProvider.layer(ConfigProvider.fromEnvRecord({
          REDIS_SENTINELS: deployment.addresses.map(({ host, port }) => `${host}:${port}`).join(", "),
          REDIS_SENTINEL_NAME: "my master",
          REDIS_PASSWORD: "pw",
          SERVICE_NAME: "shop"
        }))
      ))
      yield* Effect.flatMap(Redis, (redis) => redis.set("k", "v")).pipe(Effect.provide(context))
      assert.strictEqual(yield* (yield* deployment.master).cli("GET", "shop:k"), "v")
    }).pipe(Effect.scoped))

  it.live("while one Sentinel is dead and one silent", () =>
    Effect.gen(function*() {
      const deployment = yield* start
      const [first, second] = deployment.sentinels
      yield* first!.kill()
      yield* second!.pause
      yield* set(yield* build({ ...through(deployment), connectTimeout: "2 seconds" }))
    }).pipe(Effect.scoped))

  it.live("when most Sentinels name it, whatever one says that is cut off from them", () =>
    Effect.gen(function*() {
      const deployment = yield* start
      const liar = yield* loneSentinel(yield* RedisServer.start())
      const [first, second] = deployment.addresses
      const nodes = [{ host: "127.0.0.1", port: liar.port }, first!, second!]
      const client = yield* build({ sentinel: { name: deployment.name, nodes } })
      assert.strictEqual(portOf(client), (yield* deployment.master).port)
    }).pipe(Effect.scoped))

  it.live("through Sentinels that others have told of, once those that the settings name are gone", () =>
    Effect.gen(function*() {
      const deployment = yield* start
      const nodes = deployment.addresses.slice(0, 1)
      const client = yield* build({ sentinel: { name: deployment.name, nodes } })
      yield* deployment.sentinels[0]!.kill()
      yield* disconnectAll(yield* deployment.master)
      yield* set(client)
    }).pipe(Effect.scoped))

  it.live("though Sentinels that others have told of fall silent", () =>
    Effect.gen(function*() {
      const deployment = yield* start
      const nodes = deployment.addresses.slice(0, 1)
      const client = yield* build({ sentinel: { name: deployment.name, nodes }, commandTimeout: "2 seconds" })
      for (const sentinel of deployment.sentinels.slice(1)) yield* sentinel.pause
      yield* disconnectAll(yield* deployment.master)
      yield* set(client)
    }).pipe(Effect.scoped))

  it.live("once a server that is a replica still, as its Sentinel should know, is the master", () =>
    Effect.gen(function*() {
      const other = yield* RedisServer.start()
      const server = yield* RedisServer.start({ args: ["--replicaof", other.host, String(other.port)] })
      const sentinel = yield* loneSentinel(server)
      const settings: RedisSettings = { sentinel: { name: "main", nodes: [sentinel] } }
      const error = yield* refusal({ ...settings, connectTimeout: "1 second" })
      assert.deepInclude(error, { reason: "read-only", outcome: "NotSent" })
      const client = yield* Effect.forkChild(build(settings))
      const writing = yield* Effect.forkChild(
        Effect.flatMap(build({ ...settings, connect: "background" }), set)
      )
      yield* eventually(
        "both have come, and were turned away",
        Effect.map(
          server.cli("INFO", "stats"),
          (info) => Number(/total_connections_received:(\d+)/.exec(String(info))?.[1]) > 20
        )
      )
      yield* server.cli("REPLICAOF", "NO", "ONE")
      yield* set(yield* Fiber.join(client))
      yield* Fiber.join(writing)
    }).pipe(Effect.scoped))
})

describe("A client of a library's own", () => {
  it.live("finds the master while one Sentinel is dead and one silent", () =>
    Effect.gen(function*() {
      const deployment = yield* start
      const [first, second] = deployment.sentinels
      const client = yield* build({ ...through(deployment), connectTimeout: "3 seconds" })
      yield* first!.kill()
      yield* second!.pause
      const duplicate = yield* client.duplicate()
      assert.strictEqual(yield* Effect.promise(() => duplicate.set("k", "v")), "OK")
    }).pipe(Effect.scoped))

  it.live("fails in time when no Sentinel answers", () =>
    Effect.gen(function*() {
      const deployment = yield* start
      const client = yield* build({ ...through(deployment), connectTimeout: "1 second" })
      for (const sentinel of deployment.sentinels) yield* sentinel.pause
      const error = yield* Effect.flip(client.duplicate())
      assert.deepInclude(error, { command: "duplicate", reason: "timeout", outcome: "NotSent" })
    }).pipe(Effect.scoped))
})

describe("No master is found", () => {
  it.live("when no Sentinel is up: said at once, and mended in the background", () =>
    Effect.gen(function*() {
      const deployment = yield* start
      for (const sentinel of deployment.sentinels) yield* sentinel.kill()
      const error = yield* refusal(through(deployment))
      assert.deepInclude(error, { _tag: "RedisError", command: "connect", reason: "connection", outcome: "NotSent" })
      assert.match(error.detail, /^none of 3 Sentinels .*ECONNREFUSED.*REDIS_SENTINELS/)
      const client = yield* build({ ...through(deployment), connect: "background", commandTimeout: "200 millis" })
      const later = yield* Effect.flip(set(client))
      assert.deepInclude(later, { command: "connect", reason: "connection", outcome: "NotSent", detail: later.detail })
      assert.match(later.detail, /^none of 3 Sentinels/)
      for (const sentinel of deployment.sentinels) yield* sentinel.restart
      yield* Effect.retry(set(client), { while: ({ outcome }) => outcome === "NotSent", times: 40 })
    }).pipe(Effect.scoped))

  it.live("when no Sentinel answers: said at the connect timeout", () =>
    Effect.gen(function*() {
      const deployment = yield* start
      for (const sentinel of deployment.sentinels) yield* sentinel.pause
      const error = yield* refusal({ ...through(deployment), connectTimeout: "300 millis" })
      assert.deepInclude(error, { reason: "timeout", outcome: "NotSent" })
      assert.match(error.detail, /^none of 3 Sentinels .*timed out.*REDIS_SENTINELS/)
      const client = yield* build({ ...through(deployment), connectTimeout: "300 millis", connect: "background" })
      for (const sentinel of deployment.sentinels) yield* sentinel.resume
      yield* set(client)
    }).pipe(Effect.scoped))

  it.live("when the Sentinels do not know its name", () =>
    Effect.gen(function*() {
      const { addresses } = yield* start
      const error = yield* refusal({ sentinel: { name: "s3cr3t", nodes: addresses } })
      assert.deepInclude(error, { reason: "connection", outcome: "NotSent" })
      assert.match(error.detail, /know no master of this name; check REDIS_SENTINEL_NAME/)
    }).pipe(Effect.scoped))

  it.live("when an ordinary server stands where a Sentinel should", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      const error = yield* refusal({ sentinel: { name: "main", nodes: [server] } })
      assert.match(error.detail, /^none of 1 Sentinels .*unknown command/i)
    }).pipe(Effect.scoped))

  it.live("when the scope closes first, which leaves no connection to a Sentinel", () =>
    Effect.gen(function*() {
      const { port, sockets } = yield* mute
      yield* Effect.scoped(Effect.gen(function*() {
        yield* build({ sentinel: { name: "main", nodes: [{ host: "127.0.0.1", port }] }, connect: "background" })
        yield* eventually("it is asked", Effect.sync(() => sockets.size === 1))
      }))
      yield* Effect.sleep("50 millis")
      assert.strictEqual(sockets.size, 0)
    }).pipe(Effect.scoped))
})
