/** A program that starts before its Cluster: what looks for servers waits for them, as calls do. */
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Fiber, Layer, Redacted, Stream } from "effect"
import { Health } from "../../src/Health.ts"
import { Redis } from "../../src/Redis.ts"
import { RedisClient } from "../../src/RedisClient.ts"
import type { RedisSettings } from "../../src/RedisSettings.ts"
import { RedisCluster } from "../support/redisCluster.ts"
import { keysAt, settingsOf } from "../support/suiteCluster.ts"

const start = (all: RedisCluster, more: RedisSettings = {}) =>
  Effect.map(
    Layer.build(
      Layer.provideMerge(
        Health.layer({ cache: 0, deadline: 100 }),
        Redis.layer(settingsOf(all, { connect: "background", ...more }))
      )
    ),
    (context) => ({
      client: Context.get(context, RedisClient),
      redis: Context.get(context, Redis),
      health: Context.get(context, Health)
    })
  )

type Program = Effect.Success<ReturnType<typeof start>>

/** Asks for servers in each way that there is, and begins at once. */
const ask = ({ client, redis }: Program) =>
  Effect.forEach([
    Effect.map(client.servers, (servers) => servers.length),
    Effect.flatMap(client.reserve, ({ use }) => use("ping", (redis) => redis.ping())),
    Effect.flatMap(client.reserveFor("k"), ({ use }) => use("set", (redis) => redis.set("k", "1"))),
    Effect.map(Stream.runCollect(redis.scan("nothing")), (keys) => keys.length)
  ], (each) => Effect.forkScoped(each, { startImmediately: true }))

const replies = [2, "PONG", "OK", 0]

/** They wait while Health tells why. */
const wait = (asked: ReadonlyArray<Fiber.Fiber<unknown, unknown>>, { health }: Program, reason: string) =>
  Effect.gen(function*() {
    // It may take more than one check to hear from them.
    const { status } = yield* Effect.repeat(health.check, {
      until: ({ reasons }) => reasons.join() === `redis: ${reason}`
    })
    assert.strictEqual(status, "unhealthy")
    assert.deepStrictEqual(asked.map((fiber) => fiber.pollUnsafe()), asked.map(() => undefined))
  })

describe("A client that starts in the background", () => {
  it.live("has servers, reserved connections and scans wait while nobody listens there, and Health says so", () =>
    Effect.gen(function*() {
      const all = yield* RedisCluster.start({ masters: 2, replicas: 0, persistence: "aof-always" })
      for (const node of all.nodes) yield* node.kill()
      const program = yield* start(all, { commandTimeout: "10 seconds" })
      const asked = yield* ask(program)
      yield* wait(asked, program, "there is no connection (ECONNREFUSED)")
      for (const node of all.nodes) yield* node.restart
      assert.deepStrictEqual(yield* Effect.forEach(asked, Fiber.join), replies)
    }))

  it.live("has them wait while nobody answers there", () =>
    Effect.gen(function*() {
      const all = yield* RedisCluster.start({ masters: 2, replicas: 0 })
      const asked = yield* Effect.gen(function*() {
        for (const node of all.nodes) yield* node.pause
        const program = yield* start(all, { commandTimeout: "10 seconds" })
        const asked = yield* ask(program)
        yield* wait(asked, program, "there is no connection (no answer within 100 ms)")
        return asked
      }).pipe(Effect.ensuring(Effect.forEach(all.nodes, (node) => node.resume)))
      assert.deepStrictEqual(yield* Effect.forEach(asked, Fiber.join), replies)
    }))

  it.live("has them fail at the deadline, and say why", () =>
    Effect.gen(function*() {
      const all = yield* RedisCluster.start({ masters: 2, replicas: 0 })
      for (const node of all.nodes) yield* node.kill()
      const asked = yield* ask(yield* start(all, { commandTimeout: "150 millis" }))
      for (const fiber of asked) {
        const error = yield* Effect.flip(Fiber.join(fiber))
        assert.deepInclude(error, { reason: "connection", outcome: "NotSent" })
        assert.match(String(error), /ECONNREFUSED/)
      }
    }))

  it.live("does not have them wait for a master that is away, when another will do", () =>
    Effect.gen(function*() {
      const all = yield* RedisCluster.start({
        masters: 2,
        replicas: 0,
        args: ["--cluster-require-full-coverage", "no"]
      })
      const dead = yield* all.killMaster(0)
      const [key = ""] = yield* keysAt(all, all.nodes.find((node) => node !== dead)!, 1)
      const asked = [
        ({ client }: Program) => Effect.map(client.servers, (servers) => servers.length),
        ({ client }: Program) => Effect.map(client.reserve, () => 2),
        ({ client }: Program) => Effect.map(client.reserveFor(key), () => 2)
      ]
      for (const ask of asked) {
        assert.strictEqual(yield* Effect.scoped(ask(yield* start(all, { commandTimeout: "1 minute" }))), 2)
      }
    }))

  it.live("has Health tell that its password is not the right one", () =>
    Effect.gen(function*() {
      const all = yield* RedisCluster.start({ masters: 1, replicas: 0, password: "right" })
      const program = yield* start(all, { password: Redacted.make("wrong"), commandTimeout: "10 seconds" })
      yield* wait(yield* ask(program), program, "it does not accept the user or the password")
    }))
})
