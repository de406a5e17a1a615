/** What calls of one turn of the event loop, which leave in one write, have to expect: their order, and whole values. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Result, Schema } from "effect"
import * as fc from "fast-check"
import { type ChainableCommander, Redis as IoRedis } from "ioredis"
import type { RedisClient } from "../src/RedisClient.ts"
import type { RedisError } from "../src/RedisError.ts"
import * as RedisScript from "../src/RedisScript.ts"
import { connect, inOneTurn, startOver, transports } from "./support/oneTurn.ts"
import { sharedRedisUrl, uniqueNamespace } from "./support/sharedRedis.ts"

const everyByte = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte))

const Appended = RedisScript.make({
  name: "test.append",
  keys: ["text"],
  args: ["more"],
  result: Schema.Finite,
  lua: `return redis.call("APPEND", text, more)`
})

describe.each(transports)("Calls of one turn over %s", (transport) => {
  it.live("leave in one write, and as soon as the turn ends", () =>
    Effect.gen(function*() {
      const { settings } = yield* startOver(transport)
      const { info, multi, pipeline, raw: { stream }, script, use } = yield* connect(settings)
      const reads = Effect.map(info("stats"), (stats) => Number(stats["total_reads_processed"]))
      yield* script(Appended, { text: "a", more: "" })
      const turn = inOneTurn([
        ...Array.from({ length: 30 }, (_, i) => use("get", (redis) => redis.get(`k${i}`))),
        pipeline((commands) => commands.set("a", "ä").get("a")),
        multi((commands) => commands.incr("n").incr("n")),
        script(Appended, { text: "a", more: "b" })
      ])
      for (let i = 0; i < 10; i++) {
        const readBefore = yield* reads
        const writtenBefore = stream.bytesWritten
        const replies = yield* Effect.forkChild(turn, { startImmediately: true })
        yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
        assert.isAbove(stream.bytesWritten, writtenBefore)
        yield* Fiber.join(replies)
        // That one, and the second look at how many there were.
        assert.strictEqual((yield* reads) - readBefore, 2)
      }
    }).pipe(Effect.scoped))

  it.live("arrive whole and in their order, whether texts or bytes", () =>
    Effect.gen(function*() {
      const { settings } = yield* startOver(transport)
      const { use } = yield* connect(settings)
      const values = [
        "text",
        everyByte,
        "",
        Buffer.alloc(0),
        "ä€😀\r\n",
        Buffer.from([0xff, 0xfe, 0x0d, 0x0a]),
        "*1\r\n$4\r\nPING\r\n",
        Buffer.from("ä€😀"),
        "x".repeat(2000),
        "ö".repeat(3000),
        everyByte
      ]
      const all = Array.from({ length: 20 }, () => values).flat()
      const lengths = yield* inOneTurn(all.map((value) => use("rpush", (redis) => redis.rpush("list", value))))
      assert.deepStrictEqual(lengths, all.map((_, i) => i + 1))
      const stored = yield* use("lrange", (redis) => redis.lrangeBuffer("list", 0, -1))
      assert.deepStrictEqual(stored, all.map((value) => Buffer.from(value)))
    }).pipe(Effect.scoped))

  it.live("arrive so beside some of several megabytes", () =>
    Effect.gen(function*() {
      const { settings } = yield* startOver(transport)
      const { use } = yield* connect(settings)
      const bytes = Buffer.concat(Array.from({ length: 16_000 }, () => everyByte))
      const text = "ä€😀\r\n".repeat(400_000)
      const values = ["a", text, "b", Buffer.from("c"), bytes, "d", text, bytes, Buffer.from("e"), "f"]
      const echoes = yield* inOneTurn(values.map((value) => use("echo", (redis) => redis.callBuffer("ECHO", value))))
      // A difference of megabytes would take long to print.
      assert.deepStrictEqual(
        values.map((value, i) => Buffer.from(value).equals(echoes[i] as Buffer)),
        values.map(() => true)
      )
    }).pipe(Effect.scoped))

  it.live("keep their order with pipelines, transactions and scripts", () =>
    Effect.gen(function*() {
      const { settings } = yield* startOver(transport)
      const { multi, pipeline, script, use } = yield* connect(settings)
      const append = (more: string | Buffer) => use("append", (redis) => redis.append("text", more))
      yield* script(Appended, { text: "text", more: "" })
      const lengths = yield* inOneTurn([
        append("a"),
        Effect.map(pipeline((commands) => commands.append("text", "b").append("text", "c")), (all) =>
          all.map(Result.getOrThrow)),
        append(Buffer.from("d")),
        multi((commands) =>
          commands.append("text", "e").append("text", "f")
        ),
        append("g"),
        multi((commands) => commands.append("text", Buffer.from("h")).append("text", "i")),
        script(Appended, { text: "text", more: "j" }),
        Effect.map(pipeline((commands) => commands.append("text", Buffer.from("k"))), (all) =>
          all.map(Result.getOrThrow)),
        script(Appended, { text: "text", more: Buffer.from("l") }),
        append("m")
      ])
      assert.deepStrictEqual(lengths, [1, [2, 3], 4, [5, 6], 7, [8, 9], 10, [11], 12, 13])
      assert.strictEqual(
        yield* use("get", (redis) =>
          redis.get("text")),
        "abcdefghijklm"
      )
    }).pipe(Effect.scoped))
})

/** A command without its key, which differs for us and for the one that we compare with. */
interface Step {
  readonly command: string
  readonly key: string
  readonly value?: string | Buffer
}

/** `single` is one command; the others may have several, or none. */
interface Asked {
  readonly as: "single" | "pipeline" | "multi"
  readonly steps: ReadonlyArray<Step>
}

const step: fc.Arbitrary<Step> = (() => {
  const key = fc.constantFrom("a", "b", "ö")
  const value = fc.oneof(
    fc.constantFrom<string | Buffer>("", "7", "-1", Buffer.from("8"), Buffer.alloc(0), "é".repeat(3000), everyByte),
    fc.string({ unit: "grapheme", maxLength: 8 }),
    fc.uint8Array({ maxLength: 8 }).map((bytes) => Buffer.from(bytes))
  )
  return fc.oneof(
    fc.record({ command: fc.constantFrom("get", "incr"), key }),
    fc.record({ command: fc.constantFrom("set", "append"), key, value })
  )
})()

const asked: fc.Arbitrary<Asked> = fc.oneof(
  { weight: 3, arbitrary: step.map((step): Asked => ({ as: "single", steps: [step] })) },
  {
    weight: 1,
    arbitrary: fc.record({ as: fc.constantFrom("pipeline", "multi"), steps: fc.array(step, { maxLength: 6 }) })
  }
)

/** What a caller can see. */
const seen = (result: Result.Result<unknown, RedisError>): unknown =>
  Result.isSuccess(result) ? result.success : `refused: ${result.failure.detail}`

/** Asks for it in one call. */
const ask = ({ key, multi, pipeline, use }: RedisClient["Service"], { as, steps }: Asked): Effect.Effect<unknown> => {
  const argsOf = (step: Step) => [key(step.key), ...(step.value === undefined ? [] : [step.value])]
  const add = (commands: ChainableCommander) =>
    steps.reduce((commands, step) => commands.callBuffer(step.command, ...argsOf(step)), commands)
  if (as === "multi") return Effect.map(Effect.result(multi(add)), seen)
  if (as === "pipeline") return Effect.map(Effect.orDie(pipeline(add)), (results) => results.map(seen))
  const [step] = steps
  return Effect.map(Effect.result(use("one", (redis) => redis.callBuffer(step!.command, argsOf(step!)))), seen)
}

/** What `ask` has to yield, command by command through ioredis alone, each after the reply to the one before. */
const expected = async (raw: IoRedis, prefix: string, { as, steps }: Asked): Promise<unknown> => {
  const replies: Array<unknown> = []
  for (const { command, key, value } of steps) {
    const args = [prefix + key, ...(value === undefined ? [] : [value])]
    replies.push(await raw.callBuffer(command, args).catch((error: Error) => `refused: ${error.message}`))
  }
  if (as === "single") return replies[0]
  const refusal = replies.find((reply) => typeof reply === "string")
  return as === "multi" && refusal !== undefined ? refusal : replies
}

describe("Calls of one turn, whatever they are", () => {
  it.live("get the replies that they get from ioredis one after another", () =>
    Effect.gen(function*() {
      const client = yield* connect({ url: sharedRedisUrl(), namespace: uniqueNamespace() })
      const raw = yield* Effect.acquireRelease(
        Effect.sync(() => new IoRedis(sharedRedisUrl())),
        (raw) => Effect.promise(() => raw.quit())
      )
      let runs = 0
      const agree = async (turn: ReadonlyArray<Asked>) => {
        const prefix = `${client.key(`raw ${runs++}`)}:`
        const replies: Array<unknown> = []
        for (const each of turn) replies.push(await expected(raw, prefix, each))
        await raw.del(...["a", "b", "ö"].map((key) => client.key(key)))
        assert.deepStrictEqual(await Effect.runPromise(inOneTurn(turn.map((each) => ask(client, each)))), replies)
      }
      yield* Effect.promise(() =>
        fc.assert(fc.asyncProperty(fc.array(asked, { minLength: 1, maxLength: 30 }), agree), { numRuns: 200 })
      )
    }).pipe(Effect.scoped))
})
