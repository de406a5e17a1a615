/** A planned failover: the old master goes on for a while, and loses what it is told. */
import { assert, it } from "@effect/vitest"
import { Context, Effect, Fiber, Layer } from "effect"
import { RedisClient } from "../../src/RedisClient.ts"
import { Proxy } from "../support/proxy.ts"
import { eventually } from "../support/queuesOnRedis.ts"
import { RedisSentinel } from "../support/redisSentinel.ts"
import { build } from "../support/sentinelClient.ts"

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

it.live("a connection that was on its way to a master that handed over meanwhile does not stay there", () =>
  Effect.scoped(Effect.gen(function*() {
    const sentinel = yield* RedisSentinel.start()
    const before = yield* sentinel.master
    const proxy = yield* Proxy.start(before)
    yield* proxy.delay(Infinity, "replies")
    const natMap = { [`${before.host}:${before.port}`]: { host: "127.0.0.1", port: proxy.port } }
    const client = yield* build({
      sentinel: { name: sentinel.name, nodes: sentinel.addresses, natMap },
      connect: "background",
      connectTimeout: "10 seconds",
      commandTimeout: "10 seconds"
    })
    yield* eventually("it is on its way", Effect.sync(() => proxy.connections === 1))
    const failover = yield* Effect.forkChild(sentinel.failover)
    yield* eventually(
      "all Sentinels name the new master",
      Effect.map(
        Effect.forEach(sentinel.sentinels, (one) => one.cli("SENTINEL", "GET-MASTER-ADDR-BY-NAME", sentinel.name)),
        (answers) => answers.every((answer) => Number((answer as ReadonlyArray<string>)[1]) !== before.port)
      )
    )
    // What they tell is on its way to us, too.
    yield* Effect.sleep("150 millis")
    assert.strictEqual(((yield* before.cli("ROLE")) as ReadonlyArray<unknown>)[0], "master")
    yield* proxy.restore
    const port = Effect.map(client.info("server"), (info) => Number(info["tcp_port"]))
    assert.notStrictEqual(yield* port, before.port)
    assert.strictEqual((yield* Fiber.join(failover)).port, yield* port)
  })))
