/** Whatever is opened in a scope is gone when that closes: a thousand times over, also when it was interrupted half-way. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Report } from "./leaks/cycles.ts"
import { NodeProcess } from "./support/processes.ts"
import { RedisServer } from "./support/redisServer.ts"

/** A closure and its place in a set take 100 bytes or more; what is measured without a leak is below 20. */
const mostBytesPerCycle = 40

/** Measures the things of a group in a process of their own, with a server of its own, until it ends by itself. */
const measure = (group: string, seed: number) =>
  Effect.gen(function*() {
    const server = yield* RedisServer.start({ persistence: "aof-everysec" })
    const child = yield* NodeProcess.start(new URL("./leaks/main.ts", import.meta.url), {
      args: [group, server.url, String(seed)]
    })
    const exit = yield* Effect.timeoutOrElse(child.exit, {
      duration: "100 seconds",
      orElse: () => Effect.die(new Error(`It still runs:\n${child.output}`))
    })
    assert.deepStrictEqual(exit, { code: 0, signal: null }, child.output)
    assert.lengthOf(yield* server.clients(), 0)
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
      ["services in memory", "memory", 1]
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
