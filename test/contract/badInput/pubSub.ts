/** The contract of PubSub: what is refused, and what comes through as it is. */
import { assert, type Vitest } from "@effect/vitest"
import { Effect, Redacted, Schema, Stream } from "effect"
import * as Channel from "../../../src/Channel.ts"
import { PubSub } from "../../../src/PubSub.ts"
import {
  anyJson,
  anyKinds,
  assertUnpolluted,
  badKinds,
  depthOf,
  depths,
  differentNames,
  forAll,
  Kinds,
  nested,
  noName,
  notWhole,
  refuses,
  Tree,
  tree
} from "./support.ts"

const maxBytes = 1024 * 1024
const maxBatchBytes = 16 * 1024 * 1024

/** Publishes, and yields what one subscriber makes of it. */
const echo = <A>(channel: Channel.Channel<A>, messages: ReadonlyArray<NoInfer<A>>) =>
  Effect.scoped(Effect.gen(function*() {
    const pubsub = yield* PubSub
    const received = yield* pubsub.subscribeScoped(channel)
    yield* pubsub.publishAll(channel, messages)
    return yield* Stream.runCollect(Stream.take(received, messages.length))
  }))

export const badInput = (it: Vitest.MethodsNonLive<PubSub>): void => {
  it.effect("refuses whatever is no channel, pattern or buffer, before anything is sent", () =>
    Effect.gen(function*() {
      const pubsub = yield* PubSub
      yield* forAll(noName, 60, (name) =>
        Effect.gen(function*() {
          const channel = Channel.make(name, Schema.Unknown)
          yield* refuses("channel name", pubsub.publish(channel, 1), name)
          yield* refuses("channel name", pubsub.publishAll(channel, []), name)
          yield* refuses("channel name", pubsub.publishAll(channel, [1]), name)
          yield* refuses("channel name", Effect.scoped(pubsub.subscribeScoped(channel)), name)
          yield* refuses("channel name", Stream.runDrain(pubsub.events(channel)), name)
          yield* refuses("channel pattern", Stream.runDrain(pubsub.subscribePattern(name, Schema.Unknown)), name)
          yield* refuses(
            "channel pattern",
            Effect.scoped(pubsub.eventsScoped(Channel.pattern(name, Schema.Unknown))),
            name
          )
        }))
      yield* forAll(notWhole(1, 1_000_000), 60, (size) =>
        Effect.gen(function*() {
          const channel = Channel.make("sizes", Schema.Unknown)
          yield* refuses("buffer size", Stream.runDrain(pubsub.subscribe(channel, { buffer: { size } })), size)
          yield* refuses("buffer size", Effect.scoped(pubsub.eventsScoped(channel, { buffer: { size } })), size)
        }))
      assert.strictEqual(yield* pubsub.publish(Channel.make("sizes", Schema.Unknown), 1), 0)
    }))

  it.effect("keeps channels apart that differ in anything", () =>
    forAll(differentNames(6), 40, (names) =>
      Effect.scoped(Effect.gen(function*() {
        const pubsub = yield* PubSub
        const channels = names.map((name) => Channel.make(name, Schema.Finite))
        const all = yield* Effect.forEach(channels, (channel) => pubsub.subscribeScoped(channel))
        for (const [i, channel] of channels.entries()) assert.strictEqual(yield* pubsub.publish(channel, i), 1)
        for (const channel of channels) yield* pubsub.publish(channel, -1)
        for (const [i, received] of all.entries()) {
          assert.deepStrictEqual(yield* Stream.runCollect(Stream.take(received, 2)), [i, -1])
        }
      }))))

  it.effect("carries any JSON as data, whatever its keys are", () =>
    Effect.gen(function*() {
      const channel = Channel.make("any json", Schema.Unknown)
      yield* forAll(anyJson, 100, (value) =>
        Effect.map(echo(channel, [value]), (received) =>
          assert.deepStrictEqual(received, [value])))
      assertUnpolluted()
    }))

  it.effect("carries what a schema makes JSON of, and refuses what it cannot", () =>
    Effect.gen(function*() {
      const pubsub = yield* PubSub
      const channel = Channel.make("kinds", Kinds)
      yield* forAll(anyKinds, 60, (value) =>
        Effect.map(echo(channel, [value]), (received) =>
          assert.deepStrictEqual(received, [value])))
      for (const value of badKinds) {
        yield* refuses("message", pubsub.publish(channel, value))
        yield* refuses("message", pubsub.publishAll(channel, [value]))
      }
    }))

  it.effect("carries messages as large as they may be, and nothing larger", () =>
    Effect.gen(function*() {
      const pubsub = yield* PubSub
      const channel = Channel.make("large", Schema.String)
      for (const unit of ["x", "ä"]) {
        // With its quotes, it takes exactly as much as there may be.
        const full = unit.repeat((maxBytes - 2) / Buffer.byteLength(unit))
        assert.isTrue((yield* echo(channel, [full]))[0] === full)
        yield* refuses("message", pubsub.publish(channel, `${full}x`))
        yield* refuses("message", pubsub.publishAll(channel, ["a", `${full}x`]))
        const batch = Array.from({ length: maxBatchBytes / maxBytes }, () => full)
        assert.lengthOf(yield* pubsub.publishAll(channel, batch), batch.length)
        yield* refuses("messages", pubsub.publishAll(channel, [...batch, ""]))
      }
      const many = Array.from({ length: 10_000 }, () => "x")
      assert.lengthOf(yield* pubsub.publishAll(channel, many), 10_000)
      yield* refuses("messages", pubsub.publishAll(channel, [...many, "x"]))
      assert.deepStrictEqual(yield* pubsub.publishAll(channel, []), [])
    }))

  it.effect("brings what is nested deeply, or says that it is too deep", () =>
    Effect.gen(function*() {
      const pubsub = yield* PubSub
      const deep = Channel.make("deep", Schema.Unknown)
      const trees = Channel.make("trees", Tree)
      let refused = 0
      const tooDeep = (error: unknown) => {
        refused++
        assert.include(error, { _tag: "InvalidInput", input: "message", problem: "it is nested too deeply" })
      }
      for (const levels of depths) {
        const sent = yield* Effect.result(echo(deep, [nested(levels)]))
        if (sent._tag === "Success") assert.strictEqual(depthOf(sent.success[0]), levels)
        else tooDeep(sent.failure)
        const planted = yield* Effect.result(pubsub.publish(trees, tree(levels)))
        if (planted._tag === "Failure") tooDeep(planted.failure)
      }
      assert.isAbove(refused, 0)
    }))

  it.effect("tells what is wrong with a message without a part of it, its keys included", () =>
    Effect.scoped(Effect.gen(function*() {
      const pubsub = yield* PubSub
      const text = { scores: { s3cr3t: { n: "s3cr3t" } } }
      const Scores = Channel.make(
        "scores",
        Schema.Struct({ scores: Schema.Record(Schema.String, Schema.Struct({ n: Schema.Finite })) })
      )
      const events = yield* pubsub.eventsScoped(Scores)
      yield* pubsub.publish(Channel.make("scores", Schema.Unknown), text)
      const [event] = yield* Stream.runCollect(Stream.take(events, 1))
      assert.isTrue(event?._tag === "Undecodable")
      if (event?._tag !== "Undecodable") return
      assert.strictEqual(Redacted.value(event.payload), JSON.stringify(text))
      const error = yield* Effect.flip(pubsub.publish(Scores, text as unknown as typeof Scores.schema.Type))
      for (const words of [event.problem, error.message]) {
        assert.include(words, `["scores"]["…"]["n"]`)
        assert.notInclude(words, "s3cr3t")
      }
    })))
}
