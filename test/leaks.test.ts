/** Whatever is opened in a scope is gone when that closes: a thousand times over, also when it was interrupted half-way. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import type { RedisSettings } from "../src/RedisSettings.ts"
import type { Report } from "./leaks/cycles.ts"
import { NodeProcess } from "./support/processes.ts"
import { RedisCluster } from "./support/redisCluster.ts"
import { RedisSentinel } from "./support/redisSentinel.ts"
import { RedisServer } from "./support/redisServer.ts"

/** A closure and its place in a set take 100 bytes or more; what is measured without a leak is below 20. */
const mostBytesPerCycle = 40

const kept = { persistence: "aof-everysec" } as const

/** A server of one's own, and how clients are told of it when its URL does not. */
const startFor = (
  group: string
): Effect.Effect<{ readonly server: RedisServer; readonly settings: RedisSettings }, never, Scope.Scope> => {
  switch (group) {
    case "cluster":
      return Effect.map(RedisCluster.start({ ...kept, masters: 1, replicas: 0 }), ({ addresses, nodes: [server] }) => ({
        server: server!,
        settings: { cluster: { nodes: addresses } }
      }))
    case "sentinel":
      return Effect.map(
        RedisSentinel.start({ ...kept, sentinels: { count: 1 } }),
        ({ addresses, name, servers: [server] }) => ({
          server: server!,
          settings: { sentinel: { name, nodes: addresses } }
        })
      )
    default:
      return Effect.map(RedisServer.start(kept), (server) => ({ server, settings: {} }))
  }
}

/** Measures the things of a group in a process of their own, with a server of its own, until it ends by itself. */
const measure = (group: string, seed: number) =>
  Effect.gen(function*() {
    const { server, settings } = yield* startFor(group)
    const before = (yield* server.clients()).length
    const child = yield* NodeProcess.start(new URL("./leaks/main.ts", import.meta.url), {
      args: [group, server.url, String(seed), JSON.stringify(settings)]
    })
    const exit = yield* Effect.timeoutOrElse(child.exit, {
      duration: "100 seconds",
      orElse: () => Effect.die(new Error(`It still runs:\n${child.output}`))
    })
    assert.deepStrictEqual(exit, { code: 0, signal: null }, child.output)
    assert.lengthOf(yield* server.clients(), before)
    const [, millis] = /exited after (\d+) ms/.exec(child.output) ?? []
    assert.isBelow(Number(millis), 1000, child.output)
    const lines = child.output.split("\n")
    assert.deepStrictEqual(lines.filter((line) => line.startsWith("warning ")), [])
    return lines.filter((line) => line.startsWith("{")).map((line): Report => JSON.parse(line))
  }).pipe(Effect.scoped)

describe("A thousand cycles of opening and closing", () => {
  it.live.each(
    [
      ["connections, subscriptions and whole layers", "connections", 10],
      ["queues, workers, results, events and leases", "queues", 6],
      ["locks", "locks", 3],
      ["limits, health and its routes", "others", 5],
      ["services in memory", "memory", 1],
      ["clients of a Cluster", "cluster", 3],
      ["clients behind Sentinels", "sentinel", 3]
    ] as const
  )("leave nothing behind of %s", ([, group, count]) =>
    Effect.gen(function*() {
      const seed = Math.floor(Math.random() * 2 ** 31)
      const reports = yield* measure(group, seed)
      assert.lengthOf(reports, count)
      for (const report of reports) {
        const { bytesPerCycle, held, left, name } = report
        const which = `${name} (seed ${seed})`
        assert.deepStrictEqual(left, [], which)
        assert.deepStrictEqual(held, [], which)
        assert.isBelow(Math.min(...bytesPerCycle), mostBytesPerCycle, which)
      }
    }), 120_000)
})
