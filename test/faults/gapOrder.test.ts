/** A subscriber hears of a gap before it hears what came after it. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { RedisClient } from "../../src/RedisClient.ts"
import { Proxy } from "../support/proxy.ts"
import { eventually } from "../support/queuesOnRedis.ts"
import { RedisServer } from "../support/redisServer.ts"

describe("A gap", () => {
  it.live("is told before a message that comes together with the server's acknowledgement", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      const proxy = yield* Proxy.start(server)
      const { subscribe } = yield* Effect.provide(
        RedisClient,
        yield* Layer.build(RedisClient.layer({ url: proxy.url }))
      )
      const heard: Array<string> = []
      yield* subscribe("channel", "c", {
        onMessage: (message) => heard.push(message),
        onGap: () => heard.push("gap")
      })
      yield* proxy.delay(150, "replies")
      yield* server.cli("CLIENT", "KILL", "TYPE", "pubsub")
      yield* eventually(
        "someone listens, who has not heard so yet",
        Effect.map(server.cli("PUBLISH", "c", "message"), (listening) => listening === 1)
      )
      yield* proxy.restore
      yield* eventually("the message comes", Effect.sync(() => heard.includes("message")))
      yield* eventually("the gap is told", Effect.sync(() => heard.includes("gap")))
      assert.deepStrictEqual(heard, ["gap", "message"])
    }).pipe(Effect.scoped))
})
