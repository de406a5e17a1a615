/** Calls of one turn of the event loop whose connection ends: each is told what became of it, and that is so. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Option, Result, Scope, Stream } from "effect"
import type { RedisClient, UseOptions } from "../../src/RedisClient.ts"
import { RedisError } from "../../src/RedisError.ts"
import { connect, inOneTurn, startOver, transports } from "../support/oneTurn.ts"
import { Proxy } from "../support/proxy.ts"
import { RedisServer } from "../support/redisServer.ts"

/** Each counts a key of its own; some name it in bytes, unless only texts will do. */
const counting = (
  { use }: RedisClient["Service"],
  from: number,
  count: number,
  more?: UseOptions & { readonly only?: "texts" }
) =>
  Array.from({ length: count }, (_, i) => {
    const key = `n${from + i}`
    return Effect.result(
      use("incr", (redis) => redis.incr(more?.only === undefined && i % 5 === 3 ? Buffer.from(key) : key), more)
    )
  })

type Counted = ReadonlyArray<Result.Result<number, RedisError>>

/** What is there after what a caller was told. */
const thereAfter: Readonly<Record<string, ReadonlyArray<string | null>>> = {
  1: ["1"],
  NotSent: [null],
  Unknown: [null, "1"]
}

/** Compares what the callers of `counting` were told with what is there, and yields it in short. */
const compare = (server: RedisServer, ...turns: ReadonlyArray<Counted>) => {
  const told = turns.flat().map((result) => {
    if (Result.isSuccess(result)) return result.success
    assert.instanceOf(result.failure, RedisError)
    return result.failure.outcome
  })
  return Effect.map(server.cli("MGET", ...told.map((_, i) => `n${i}`)), (values) => {
    for (const [i, value] of (values as ReadonlyArray<string | null>).entries()) {
      assert.include(thereAfter[told[i]!] ?? [], value, `call ${i} was told ${told[i]}`)
    }
    return told
  })
}

const repeated = <A>(count: number, value: A) => Array.from({ length: count }, () => value)

describe.each(transports)("Calls of one turn over %s", (transport) => {
  it.live("are all told what became of them when the scope closes in that turn", () =>
    Effect.gen(function*() {
      const { server, settings } = yield* startOver(transport)
      const scope = yield* Scope.make()
      const client = yield* Scope.provide(connect(settings), scope)
      const heard = yield* inOneTurn(counting(client, 0, 10))
      const [before, , after] = yield* inOneTurn([
        inOneTurn(counting(client, 10, 20)),
        Scope.close(scope, Exit.void),
        inOneTurn(counting(client, 30, 20))
      ])
      const told = yield* compare(server, heard, before, after)
      assert.deepStrictEqual(told, [...repeated(10, 1), ...repeated(20, "Unknown"), ...repeated(20, "NotSent")])
    }).pipe(Effect.scoped))

  it.live("are all told what became of them when the client quits in that turn", () =>
    Effect.gen(function*() {
      const { server, settings } = yield* startOver(transport)
      const client = yield* connect(settings)
      // Only texts: were there several writes, the server would hang up on those it has not read, and take replies along.
      const [before, , after] = yield* inOneTurn([
        inOneTurn(counting(client, 0, 20, { only: "texts" })),
        Effect.promise(() => client.raw.quit()),
        inOneTurn(counting(client, 20, 20, { only: "texts" }))
      ])
      const told = yield* compare(server, before, after)
      // What comes behind QUIT, the server does not look at; but who knows that?
      assert.deepStrictEqual(told, [...repeated(20, 1), ...repeated(20, "Unknown")])
    }).pipe(Effect.scoped))

  it.live("run once, if they come when the connection is about to be replaced", () =>
    Effect.gen(function*() {
      const { server, settings } = yield* startOver(transport)
      const client = yield* connect(settings)
      const [before, , after] = yield* inOneTurn([
        inOneTurn(counting(client, 0, 20)),
        Effect.sync(() => client.raw.disconnect(true)),
        inOneTurn(counting(client, 20, 20))
      ])
      const told = yield* compare(server, before, after)
      assert.deepStrictEqual(told.slice(20), repeated(20, 1))
      // Those before it are not made again: nobody knows how far they went.
      assert.notInclude(told.slice(0, 20), "NotSent")
    }).pipe(Effect.scoped))
})

/** A server, a proxy before it, and a client that only knows the proxy. */
const proxied = Effect.gen(function*() {
  const server = yield* RedisServer.start()
  const proxy = yield* Proxy.start(server)
  return { server, proxy, client: yield* connect({ url: proxy.url }) }
})

describe("Calls of one turn", () => {
  it.live("make no failure of it that the client closes its connection before they are written", () =>
    Effect.gen(function*() {
      const { client, server } = yield* proxied
      const broken = Stream.runHead(Stream.filter(client.states, ({ _tag }) => _tag === "Disconnected"))
      const state = yield* Effect.forkChild(broken, { startImmediately: true })
      const [results] = yield* inOneTurn([
        inOneTurn(counting(client, 0, 20)),
        Effect.sync(() => client.raw.disconnect(true))
      ])
      yield* compare(server, results)
      assert.deepInclude(Option.getOrThrow(yield* Fiber.join(state)), { epoch: 1, error: undefined })
    }).pipe(Effect.scoped))

  it.live.each(["requests", "replies"] as const)(
    "run once or not at all, and are told so, when the connection is cut in the middle of their %s",
    (direction) =>
      Effect.gen(function*() {
        const { client, proxy, server } = yield* proxied
        for (const bytes of [1, 100, 500]) {
          yield* server.cli("FLUSHALL")
          yield* client.use("ping", (redis) => redis.ping())
          yield* proxy.cutAfterBytes(bytes, direction)
          const told = yield* compare(server, yield* inOneTurn(counting(client, 0, 200)))
          // The proxy, which is in this process, reads nothing before all is written.
          const heard = direction === "requests" ? 0 : Math.floor(bytes / ":1\r\n".length)
          assert.deepStrictEqual(told, [...repeated(heard, 1), ...repeated(200 - heard, "Unknown")])
        }
      }).pipe(Effect.scoped)
  )

  it.live("are not sent when there is no connection in time, and run once, in their order, when there is", () =>
    Effect.gen(function*() {
      const { client, proxy, server } = yield* proxied
      const { multi, pipeline, states, use } = client
      yield* proxy.refuse
      yield* proxy.cut
      yield* Stream.runDrain(Stream.takeUntil(states, ({ _tag }) => _tag === "Disconnected"))
      const late = yield* inOneTurn(counting(client, 0, 20, { timeout: "60 millis" }))
      const append = (more: string | Buffer) => use("append", (redis) => redis.append("text", more))
      const [inTime, ...lengths] = yield* inOneTurn([
        inOneTurn(counting(client, 20, 20)),
        append("a"),
        pipeline((commands) => commands.append("text", "b").append("text", "c")),
        append(Buffer.from("d")),
        multi((commands) => commands.append("text", "e").append("text", "f")),
        append("g"),
        proxy.accept
      ])
      const told = yield* compare(server, late, inTime)
      assert.deepStrictEqual(told, [...repeated(20, "NotSent"), ...repeated(20, 1)])
      assert.deepStrictEqual(lengths.slice(0, -1), [1, [Result.succeed(2), Result.succeed(3)], 4, [5, 6], 7])
      assert.strictEqual(yield* server.cli("GET", "text"), "abcdefg")
    }).pipe(Effect.scoped))
})
