/** A planned failover: the old master goes on for a while, and loses what it is told. */
import { assert, it } from "@effect/vitest"
import { Context, Effect, Fiber, Layer } from "effect"
import { RedisClient } from "../../src/RedisClient.ts"
import { RedisSentinel } from "../support/redisSentinel.ts"

it.live("connections leave a master that handed over before it is made a replica", () =>
  Effect.scoped(Effect.gen(function*() {
    const sentinel = yield* RedisSentinel.start()
    const before = yield* sentinel.master
    const client = Context.get(yield* Layer.build(RedisClient.layer({ url: sentinel.url })), RedisClient)
    const port = Effect.map(client.info("server"), (info) => Number(info["tcp_port"]))
    const failover = yield* Effect.forkChild(sentinel.failover)
    while ((yield* port) === before.port) yield* Effect.sleep("5 millis")
    const [role] = (yield* before.cli("ROLE")) as ReadonlyArray<unknown>
    assert.strictEqual(role, "master")
    assert.strictEqual((yield* Fiber.join(failover)).port, yield* port)
  })))
