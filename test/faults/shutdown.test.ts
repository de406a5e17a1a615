/** A process whose scope has closed leaves nothing, and ends. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { NodeProcess } from "../support/processes.ts"
import { Proxy } from "../support/proxy.ts"
import { RedisServer } from "../support/redisServer.ts"

const start = (url: string) =>
  Effect.tap(
    NodeProcess.start(new URL("../support/fixtures/shutdown.ts", import.meta.url), { args: [url] }),
    (child) => child.waitForLine("ready")
  )

/** Closes the program's scope, and waits until the process ends by itself, which it promises to do within a second. */
const close = (child: NodeProcess) =>
  Effect.gen(function*() {
    yield* child.send("close")
    const exit = yield* Effect.timeoutOrElse(child.exit, {
      duration: "10 seconds",
      orElse: () => Effect.die(new Error(`It still runs:\n${child.output}`))
    })
    assert.deepStrictEqual(exit, { code: 0, signal: null }, child.output)
    assert.match(child.output, /closed/)
    const [, millis] = /exited after (\d+) ms/.exec(child.output) ?? []
    assert.isBelow(Number(millis), 1000, child.output)
  })

describe("A process whose scope has closed", () => {
  it.live("leaves no connection behind and ends by itself", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      const child = yield* start(server.url)
      assert.lengthOf(yield* server.clients(), 4)
      yield* close(child)
      assert.lengthOf(yield* server.clients(), 0)
    }).pipe(Effect.scoped))

  it.live("ends by itself while it reconnects to a server that is gone", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      const child = yield* start(server.url)
      yield* server.kill()
      yield* Effect.sleep("150 millis")
      yield* close(child)
    }).pipe(Effect.scoped))

  it.live("ends by itself while the server is stopped", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      const child = yield* start(server.url)
      yield* server.pause
      yield* close(child)
      yield* server.resume
    }).pipe(Effect.scoped))

  it.live("ends by itself while nothing answers, and new connections are half open", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      const proxy = yield* Proxy.start(server)
      const child = yield* start(proxy.url)
      yield* proxy.cut
      yield* proxy.swallow("both")
      yield* Effect.sleep("100 millis")
      yield* close(child)
    }).pipe(Effect.scoped))
})
