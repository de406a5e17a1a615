/** A reserved connection that is asked for while the server is away. */
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Fiber, Layer } from "effect"
import { RedisClient } from "../../src/RedisClient.ts"
import type { RedisSettings } from "../../src/RedisSettings.ts"
import { wait } from "../support/queuesOnRedis.ts"
import { RedisServer } from "../support/redisServer.ts"

const start = (settings: RedisSettings = {}) =>
  Effect.gen(function*() {
    const server = yield* RedisServer.start()
    const context = yield* Layer.build(RedisClient.layer({ url: server.url, ...settings }))
    return { server, client: Context.get(context, RedisClient) }
  })

const ping = ({ reserve }: RedisClient["Service"]) =>
  Effect.scoped(Effect.flatMap(reserve, ({ use }) => use("ping", (redis) => redis.ping())))

describe("A reserved connection", () => {
  it.live("is waited for while the server is away", () =>
    Effect.gen(function*() {
      const { client, server } = yield* start()
      yield* server.kill()
      const reserved = yield* Effect.forkChild(ping(client), { startImmediately: true })
      yield* wait(60)
      assert.isUndefined(reserved.pollUnsafe())
      yield* server.restart
      assert.strictEqual(yield* Fiber.join(reserved), "PONG")
    }))

  it.live("is given up at the deadline of a call when the server stays away, and is not in the way of the next", () =>
    Effect.gen(function*() {
      const { client, server } = yield* start({ commandTimeout: "150 millis", maxReserved: 1 })
      yield* server.kill()
      for (let i = 0; i < 2; i++) {
        const error = yield* Effect.flip(ping(client))
        assert.deepInclude(error, { command: "connect", reason: "connection", outcome: "NotSent" })
      }
      yield* server.restart
      assert.strictEqual(yield* Effect.retry(ping(client), { while: ({ outcome }) => outcome === "NotSent" }), "PONG")
    }))

  it.live("is refused at once to whom the server refuses", () =>
    Effect.gen(function*() {
      const { client, server } = yield* start({ commandTimeout: "1 minute" })
      yield* server.cli("ACL", "SETUSER", "default", "resetpass", ">changed")
      assert.deepInclude(yield* Effect.flip(ping(client)), { command: "connect", reason: "authentication" })
    }))
})
