/** What every PubSub engine must do. */
import { assert, layer as suite } from "@effect/vitest"
import {
  Deferred,
  type Duration,
  Effect,
  Exit,
  Fiber,
  type Layer,
  Metric,
  Redacted,
  Result,
  Schema,
  Scope,
  Stream
} from "effect"
import * as fc from "fast-check"
import * as Channel from "../../src/Channel.ts"
import { PubSub, type SubscribeOptions } from "../../src/PubSub.ts"
import { badInput } from "./badInput/pubSub.ts"

const Numbers = (name: string) => Channel.make(name, Schema.Finite)

const collect = <A, E>(stream: Stream.Stream<A, E>, count: number) => Stream.runCollect(Stream.take(stream, count))

const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i)

/** Publishes `last` until somebody listens. */
const untilHeard = <A>(channel: Channel.Channel<A>, message: NoInfer<A>) =>
  Effect.gen(function*() {
    const pubsub = yield* PubSub
    while ((yield* pubsub.publish(channel, message)) === 0) yield* Effect.yieldNow
  })

/** A subscriber that takes nothing until all of `messages` have reached its buffer. */
const behind = (
  channel: Channel.Channel<number>,
  messages: ReadonlyArray<number>,
  buffer: NonNullable<SubscribeOptions["buffer"]>
) =>
  Effect.gen(function*() {
    const pubsub = yield* PubSub
    const slow = yield* pubsub.eventsScoped(channel, { buffer })
    const fast = yield* pubsub.subscribeScoped(channel, { buffer: { size: messages.length } })
    yield* pubsub.publishAll(channel, messages)
    // Both are handed each message in the same breath.
    assert.deepStrictEqual(yield* collect(fast, messages.length), messages)
    return slow
  })

const message = <A>(channel: string, value: A): Channel.Event<A> => ({ _tag: "Message", channel, message: value })

const missed = (channel: string, count: number): Channel.Event<never> => ({ _tag: "Dropped", channel, count })

/** `run` with `count` values of `arbitrary`. */
const forAll = <A, E, R>(
  arbitrary: fc.Arbitrary<A>,
  count: number,
  run: (value: A) => Effect.Effect<void, E, R>
): Effect.Effect<void, never, R> =>
  Effect.flatMap(
    Effect.context<R>(),
    (context) =>
      Effect.promise(() =>
        fc.assert(fc.asyncProperty(arbitrary, (value) => Effect.runPromiseWith(context)(run(value))), {
          numRuns: count
        })
      )
  )

const anyName = fc.oneof(
  fc.string({ unit: "binary", minLength: 1, maxLength: 40 }),
  fc.constantFrom("a", "A", "%41", "*", "a*", "a b", "a\nb", "{a}", "}")
)

const globParts = fc.array(
  fc.constantFrom("a", "b", ":", "*", "?", "{", "\\*", "[ab]", "[^a]", "[a-c:]", "é", "%", "7", "B"),
  { minLength: 1, maxLength: 5 }
)

const someNames = fc.array(
  fc.array(fc.constantFrom("a", "b", "c", ":", "*", "{", "é", "%", "7", "B"), { minLength: 1, maxLength: 5 }),
  { minLength: 1, maxLength: 8 }
).map((names) => names.map((characters) => characters.join("")))

/** What every `PubSub` engine must do. */
export const pubSub = <E>(
  engine: string,
  layer: Layer.Layer<PubSub, E>,
  elapse: (duration: Duration.Input) => Effect.Effect<void>,
  options?: { readonly excludeTestServices?: boolean }
) =>
  suite(layer, options)(`PubSub (${engine})`, (it) => {
    it.effect("delivers messages in the order in which they were published", () =>
      Effect.gen(function*() {
        const pubsub = yield* PubSub
        const channel = Numbers("order")
        const numbers = yield* pubsub.subscribeScoped(channel)
        for (const n of range(1, 50)) yield* pubsub.publish(channel, n)
        yield* pubsub.publishAll(channel, range(51, 500))
        assert.deepStrictEqual(yield* collect(numbers, 500), range(1, 500))
      }))

    it.effect("encodes what is published and decodes what arrives", () =>
      Effect.gen(function*() {
        const pubsub = yield* PubSub
        const channel = Channel.make(
          "dates",
          Schema.Struct({ at: Schema.Date, size: Schema.BigInt, note: Schema.String })
        )
        const received = yield* pubsub.subscribeScoped(channel)
        const dated = { at: new Date(86_400_000), size: 2n ** 70n, note: "line\nbreak \u0000 \u{1F600}" }
        yield* pubsub.publish(channel, dated)
        assert.deepStrictEqual(yield* collect(received, 1), [dated])
      }))

    it.effect("gives each of many subscribers all messages, decoded once", () =>
      Effect.gen(function*() {
        const pubsub = yield* PubSub
        let decoded = 0
        const counted = Schema.String.check(Schema.makeFilter(() => {
          decoded++
          return true
        }))
        const channel = Channel.make("many", counted)
        const streams = yield* Effect.forEach(range(1, 30), () => pubsub.subscribeScoped(channel), { concurrency: 30 })
        yield* pubsub.publishAll(channel, ["a", "b", "b", "c"])
        decoded = 0
        const all = yield* Effect.forEach(streams, (stream) => collect(stream, 4), { concurrency: "unbounded" })
        for (const messages of all) assert.deepStrictEqual(messages, ["a", "b", "b", "c"])
        assert.strictEqual(decoded, 4)
      }))

    it.effect("hands over together what arrives together", () =>
      Effect.gen(function*() {
        const pubsub = yield* PubSub
        const channel = Numbers("together")
        const numbers = yield* pubsub.subscribeScoped(channel)
        const handovers: Array<ReadonlyArray<number>> = []
        const taking = yield* Effect.forkChild(
          Stream.runForEachArray(Stream.take(numbers, 500), (some) => Effect.sync(() => handovers.push(some))),
          { startImmediately: true }
        )
        yield* pubsub.publishAll(channel, range(1, 500))
        yield* Fiber.join(taking)
        assert.deepStrictEqual(handovers.flat(), range(1, 500))
        // Redis sends them in some packets.
        assert.isBelow(handovers.length, 100)
      }))

    it.effect("gives a late subscriber what is published from then on", () =>
      Effect.gen(function*() {
        const pubsub = yield* PubSub
        const channel = Numbers("late")
        const early = yield* pubsub.subscribeScoped(channel)
        yield* pubsub.publish(channel, 1)
        assert.deepStrictEqual(yield* collect(early, 1), [1])
        const late = yield* pubsub.subscribeScoped(channel)
        yield* pubsub.publish(channel, 2)
        assert.deepStrictEqual(yield* collect(late, 1), [2])
      }))

    it.effect("tells how many received it, however many subscribers listen in one place", () =>
      Effect.gen(function*() {
        const pubsub = yield* PubSub
        const channel = Numbers("receivers:1")
        assert.strictEqual(yield* pubsub.publish(channel, 1), 0)
        assert.deepStrictEqual(yield* pubsub.publishAll(channel, [1, 2]), [0, 0])
        yield* Effect.asVoid(pubsub.subscribeScoped(channel))
        yield* Effect.asVoid(pubsub.subscribeScoped(channel))
        assert.strictEqual(yield* pubsub.publish(channel, 1), 1)
        yield* Effect.asVoid(pubsub.eventsScoped(Channel.pattern("receivers:*", Schema.Finite)))
        yield* Effect.asVoid(pubsub.eventsScoped(Channel.pattern("receivers:*", Schema.Unknown)))
        yield* Effect.asVoid(pubsub.eventsScoped(Channel.pattern("*:1", Schema.Finite)))
        assert.deepStrictEqual(yield* pubsub.publishAll(channel, [1, 2]), [3, 3])
      }))

    it.effect("publishes nothing when one of many messages is invalid", () =>
      Effect.gen(function*() {
        const pubsub = yield* PubSub
        const channel = Channel.make("invalid", Schema.String.check(Schema.isMinLength(2)))
        const received = yield* pubsub.subscribeScoped(channel)
        const error = yield* Effect.flip(pubsub.publishAll(channel, ["fine", "x"]))
        assert.strictEqual(error._tag, "InvalidInput")
        assert.strictEqual((yield* Effect.flip(pubsub.publish(channel, "y")))._tag, "InvalidInput")
        assert.deepStrictEqual(yield* pubsub.publishAll(channel, []), [])
        yield* pubsub.publish(channel, "next")
        assert.deepStrictEqual(yield* collect(received, 1), ["next"])
      }))

    it.effect("refuses names, patterns, sizes and messages that cannot be, before anything is sent", () =>
      Effect.gen(function*() {
        const pubsub = yield* PubSub
        const refused = <A, R>(
          effect: Effect.Effect<A, { readonly _tag: string; readonly message: string }, R>,
          input: string
        ) =>
          Effect.map(Effect.flip(effect), (error) => {
            assert.strictEqual(error._tag, "InvalidInput")
            assert.include(error.message, input)
          })
        for (const name of ["", "half \ud800", "x".repeat(513)]) {
          yield* refused(pubsub.publish(Numbers(name), 1), "channel name")
          yield* refused(pubsub.publishAll(Numbers(name), [1]), "channel name")
          yield* refused(pubsub.subscribeScoped(Numbers(name)), "channel name")
          yield* refused(Stream.runDrain(pubsub.subscribePattern(name, Schema.Finite)), "channel pattern")
        }
        for (const pattern of ["a[", "a[]", "a[b", "a[^", "a[^]", "a[b\\]"]) {
          yield* refused(Stream.runDrain(pubsub.subscribePattern(pattern, Schema.Finite)), "channel pattern")
        }
        for (const size of [0, -1, 1.5, Number.NaN, Infinity, 1_000_001]) {
          yield* refused(Stream.runDrain(pubsub.subscribe(Numbers("n"), { buffer: { size } })), "buffer size")
        }
        const texts = Channel.make("texts", Schema.String)
        yield* refused(pubsub.publish(texts, "x".repeat(1024 * 1024)), "1048576 bytes")
        yield* refused(pubsub.publishAll(texts, Array.from({ length: 10_001 }, () => "x")), "10000")
        const large = "x".repeat(1024 * 1000)
        yield* refused(pubsub.publishAll(texts, Array.from({ length: 17 }, () => large)), "16777216 bytes")
      }))

    it.effect("listens as long as a stream runs, and no longer", () =>
      Effect.gen(function*() {
        const pubsub = yield* PubSub
        const channel = Numbers("while")
        const numbers = yield* Effect.forkChild(collect(pubsub.subscribe(channel), 1))
        yield* untilHeard(channel, 7)
        assert.deepStrictEqual(yield* Fiber.join(numbers), [7])
        assert.strictEqual(yield* pubsub.publish(channel, 8), 0)
      }))

    it.effect("lets go when it is interrupted", () =>
      Effect.gen(function*() {
        const pubsub = yield* PubSub
        const channel = Numbers("interrupted")
        const waiting = yield* Effect.forkChild(Stream.runDrain(pubsub.events(channel)))
        yield* untilHeard(channel, 1)
        yield* Fiber.interrupt(waiting)
        assert.strictEqual(yield* pubsub.publish(channel, 2), 0)
      }))

    it.effect("ends the stream when the scope of its subscription closes, with what has arrived", () =>
      Effect.gen(function*() {
        const pubsub = yield* PubSub
        const channel = Numbers("scope")
        const scope = yield* Scope.make()
        const numbers = yield* Scope.provide(pubsub.subscribeScoped(channel), scope)
        const witness = yield* pubsub.subscribeScoped(channel)
        yield* pubsub.publish(channel, 1)
        yield* collect(witness, 1)
        yield* Scope.close(scope, Exit.void)
        assert.deepStrictEqual(yield* Stream.runCollect(numbers), [1])
      }))

    it.effect("does not let a slow subscriber hold up the others, or the publisher", () =>
      Effect.gen(function*() {
        const pubsub = yield* PubSub
        const channel = Numbers("slow")
        const slow = yield* pubsub.subscribeScoped(channel, { buffer: { size: 1 } })
        const entered = yield* Deferred.make<void>()
        const stuck = yield* Effect.forkChild(
          Stream.runForEach(slow, () => Effect.andThen(Deferred.succeed(entered, undefined), Effect.never))
        )
        const fast = yield* pubsub.subscribeScoped(channel)
        yield* pubsub.publish(channel, 0)
        yield* Deferred.await(entered)
        yield* pubsub.publishAll(channel, range(1, 300))
        assert.deepStrictEqual(yield* collect(fast, 301), range(0, 300))
        yield* Fiber.interrupt(stuck)
      }))

    it.effect("drops the oldest messages of a full buffer, and says how many", () =>
      Effect.gen(function*() {
        const slow = yield* behind(Numbers("oldest"), range(1, 100), { size: 3 })
        assert.deepStrictEqual(yield* collect(slow, 4), [
          missed("oldest", 97),
          ...[98, 99, 100].map((n) => message("oldest", n))
        ])
      }))

    it.effect("holds 1024 messages unless told otherwise", () =>
      Effect.gen(function*() {
        const slow = yield* behind(Numbers("default"), range(1, 1025), {})
        const [first, second] = yield* collect(slow, 2)
        assert.deepStrictEqual(first, missed("default", 1))
        assert.deepStrictEqual(second, message("default", 2))
      }))

    it.effect("drops the newest messages of a full buffer, and says how many", () =>
      Effect.gen(function*() {
        const slow = yield* behind(Numbers("newest"), range(1, 100), { size: 3, strategy: "dropNewest" })
        assert.deepStrictEqual(yield* collect(slow, 4), [
          ...[1, 2, 3].map((n) => message("newest", n)),
          missed("newest", 97)
        ])
      }))

    it.effect("fails after what a full buffer holds, when told so", () =>
      Effect.gen(function*() {
        const slow = yield* behind(Numbers("failing"), range(1, 100), { size: 3, strategy: "fail" })
        const seen: Array<unknown> = []
        const error = yield* Effect.flip(Stream.runForEach(slow, (event) => Effect.sync(() => seen.push(event))))
        assert.strictEqual(seen.length, 3)
        assert.strictEqual(error._tag, "SlowSubscriber")
        assert.include(error.message, "\"failing\" fell more than 3 messages behind")
      }))

    it.effect("counts what it dropped, and goes on", () =>
      Effect.gen(function*() {
        const pubsub = yield* PubSub
        const channel = Numbers("goes on")
        const before = yield* dropped
        const slow = yield* behind(channel, range(1, 10), { size: 4 })
        assert.strictEqual((yield* dropped) - before, 6)
        const events = yield* Effect.forkChild(collect(slow, 6))
        yield* Effect.yieldNow
        yield* pubsub.publish(channel, 11)
        assert.deepStrictEqual((yield* Fiber.join(events)).map(({ _tag }) => _tag), [
          "Dropped",
          "Message",
          "Message",
          "Message",
          "Message",
          "Message"
        ])
      }))

    it.effect("shows what cannot be decoded as an event, hides its payload, and goes on", () =>
      Effect.gen(function*() {
        const pubsub = yield* PubSub
        const channel = Numbers("undecodable")
        const events = yield* pubsub.eventsScoped(channel)
        const messages = yield* pubsub.subscribeScoped(channel)
        yield* pubsub.publish(Channel.make("undecodable", Schema.String), "secret")
        yield* pubsub.publish(channel, 2)
        const [first, second] = yield* collect(events, 2)
        assert.strictEqual(first?._tag, "Undecodable")
        if (first?._tag === "Undecodable") {
          assert.strictEqual(first.channel, "undecodable")
          assert.strictEqual(Redacted.value(first.payload), "\"secret\"")
          assert.notInclude(JSON.stringify(first), "secret")
        }
        assert.deepStrictEqual(second, message("undecodable", 2))
        assert.deepStrictEqual(yield* collect(messages, 1), [2])
      }))

    it.effect("takes what a schema throws for a value that does not fit it, and goes on", () =>
      Effect.gen(function*() {
        const pubsub = yield* PubSub
        const throwing = Schema.Any.check(Schema.makeFilter((value) => {
          if (value === "throw") throw new Error("a bug in a schema")
          return true
        }))
        const channel = Channel.make("throwing", throwing)
        const events = yield* pubsub.eventsScoped(channel)
        for (const value of ["throw", 1n, undefined]) {
          assert.deepInclude(yield* Effect.flip(pubsub.publish(channel, value)), {
            _tag: "InvalidInput",
            input: "message"
          })
        }
        yield* pubsub.publish(Channel.make("throwing", Schema.String), "throw")
        yield* pubsub.publish(channel, "fine")
        const [first, second] = yield* collect(events, 2)
        assert.strictEqual(first?._tag, "Undecodable")
        assert.deepStrictEqual(second, { _tag: "Message", channel: "throwing", message: "fine" })
      }))

    it.effect("keeps the members of a family apart", () =>
      Effect.gen(function*() {
        const pubsub = yield* PubSub
        const Orders = Channel.family((id: string) => `orders/${id}`, Schema.String)
        const one = yield* pubsub.subscribeScoped(Orders("1"))
        const two = yield* pubsub.subscribeScoped(Orders("2"))
        yield* pubsub.publish(Orders("1"), "for one")
        yield* pubsub.publish(Orders("2"), "for two")
        assert.deepStrictEqual(yield* collect(one, 1), ["for one"])
        assert.deepStrictEqual(yield* collect(two, 1), ["for two"])
      }))

    it.effect("keeps shared channels apart from those of the namespace", () =>
      Effect.gen(function*() {
        const pubsub = yield* PubSub
        const name = `both ${yield* unique}`
        const own = yield* pubsub.subscribeScoped(Channel.make(name, Schema.String))
        const shared = yield* pubsub.subscribeScoped(Channel.make(name, Schema.String, { shared: true }))
        const pattern = yield* pubsub.eventsScoped(Channel.pattern(`${name}*`, Schema.String, { shared: true }))
        yield* pubsub.publish(Channel.make(name, Schema.String), "own")
        yield* pubsub.publish(Channel.make(name, Schema.String, { shared: true }), "shared")
        assert.deepStrictEqual(yield* collect(own, 1), ["own"])
        assert.deepStrictEqual(yield* collect(shared, 1), ["shared"])
        assert.deepStrictEqual(yield* collect(pattern, 1), [message(name, "shared")])
      }))

    it.effect("delivers on sharded channels as on others, of which no pattern hears", () =>
      Effect.gen(function*() {
        const pubsub = yield* PubSub
        const Parts = Channel.family((id: string) => `part {${id}}`, Schema.Finite, { sharded: true })
        const ids = range(1, 20).map(String)
        const streams = yield* Effect.forEach(ids, (id) => pubsub.subscribeScoped(Parts(id)))
        const pattern = yield* pubsub.eventsScoped(Channel.pattern("part*", Schema.Finite))
        const ordinary = yield* pubsub.subscribeScoped(Numbers("part {1}"))
        for (const id of ids) {
          assert.strictEqual(yield* pubsub.publish(Parts(id), Number(id)), 1)
          assert.deepStrictEqual(yield* pubsub.publishAll(Parts(id), [1, 2, 3]), [1, 1, 1])
        }
        for (const [i, stream] of streams.entries()) {
          assert.deepStrictEqual(yield* collect(stream, 4), [i + 1, 1, 2, 3])
        }
        yield* pubsub.publish(Numbers("part {1}"), 42)
        assert.deepStrictEqual(yield* collect(ordinary, 1), [42])
        assert.deepStrictEqual(yield* collect(pattern, 1), [message("part {1}", 42)])
      }))

    it.effect("subscribes to a pattern as long as the stream runs, with each message's channel", () =>
      Effect.gen(function*() {
        const pubsub = yield* PubSub
        const Orders = Channel.family((id: string) => `shop:${id}:status`, Schema.String)
        const found = yield* Effect.forkChild(collect(pubsub.subscribePattern("shop:*:status", Schema.String), 2))
        yield* untilHeard(Orders("{1}"), "packed")
        yield* pubsub.publish(Channel.make("shop:2", Schema.String), "no match")
        yield* pubsub.publish(Orders("*"), "sent")
        assert.deepStrictEqual(yield* Fiber.join(found), [
          message("shop:{1}:status", "packed"),
          message("shop:*:status", "sent")
        ])
        assert.strictEqual(yield* pubsub.publish(Orders("1"), "gone"), 0)
      }))

    it.effect.each(
      [
        ["a*", ["a", "ab", "a:{b}", "a*"], ["b", "ba", "A"]],
        ["a?c", ["abc", "a:c", "a?c", "a c", "aéc", "a\u{1F600}c", "a%c"], ["ac", "abbc", "a::c", "abc "]],
        ["a[b-d:]", ["ab", "ac", "ad", "a:"], ["aa", "ae", "a[b-d:]", "a%3A"]],
        ["a[b-d]", ["ab", "ac", "ad"], ["aB", "a-", "a:"]],
        ["a*[A-Z]b", ["a-Bb", "aBBb"], ["a{b", "aab"]],
        ["a*Bb", ["aBb", "a%7Bb"], ["a{b", "a}b"]],
        ["a[^b]", ["aa", "a^", "a:"], ["ab", "a", "aab"]],
        ["a[]^]", ["a^"].slice(1), ["a"]],
        ["a\\*", ["a*"], ["ab", "a\\"]],
        ["a[\\]\\-]", ["a]", "a-"], ["a\\", "ab"]],
        ["{*}", ["{}", "{a}"], ["a", "%7B%7D"]],
        ["*?*?*", ["ab", "a:b"], ["a", ":"]]
      ] as const
    )("matches %s as a glob", ([pattern, matching, others]) =>
      Effect.gen(function*() {
        const pubsub = yield* PubSub
        const group = `${yield* unique}/`
        const of = Channel.pattern(group + pattern, Schema.Finite)
        const opened = yield* Effect.result(pubsub.eventsScoped(of))
        if (Result.isFailure(opened)) {
          assert.deepStrictEqual([opened.failure._tag, pattern], ["InvalidInput", "a[]^]"])
          return
        }
        const all = yield* pubsub.eventsScoped(Channel.pattern(`${group}*`, Schema.Finite))
        for (const name of [...others, ...matching]) yield* pubsub.publish(Numbers(group + name), 1)
        yield* collect(all, others.length + matching.length)
        const seen = yield* collect(opened.success, matching.length)
        assert.deepStrictEqual(seen.map(({ channel }) => channel), matching.map((name) => group + name))
      }))

    it.effect("gives a message to its own channel only, whatever the names are", () =>
      forAll(fc.uniqueArray(anyName, { minLength: 2, maxLength: 8 }), 40, (names) =>
        Effect.scoped(Effect.gen(function*() {
          const pubsub = yield* PubSub
          const channels = names.map((name) =>
            Channel.make(name, Schema.String)
          )
          const streams = yield* Effect.forEach(channels, (channel) => pubsub.eventsScoped(channel))
          for (const channel of channels) assert.strictEqual(yield* pubsub.publish(channel, channel.name), 1)
          for (const [i, channel] of channels.entries()) {
            yield* pubsub.publish(channel, "last")
            const expected = [channel.name, "last"].map((text) => message(channel.name, text))
            assert.deepStrictEqual(yield* collect(streams[i]!, 2), expected)
          }
        }))))

    it.effect("hears of exactly the channels that a pattern means", () =>
      forAll(fc.tuple(globParts, someNames), 60, ([parts, names]) =>
        Effect.scoped(Effect.gen(function*() {
          const pubsub = yield* PubSub
          const group = `${yield* unique}/`
          const all = yield* pubsub.eventsScoped(Channel.pattern(`${group}*`, Schema.Finite))
          const some = yield* pubsub.eventsScoped(Channel.pattern(group + parts.join(""), Schema.Finite))
          for (const name of [...names, ...names]) {
            yield* pubsub.publish(Numbers(group + name), 1)
          }
          yield* collect(all, 2 * names.length)
          const expression = new RegExp(`^${parts.map(asExpression).join("")}$`, "su")
          const expected = names.filter((name) =>
            expression.test(name)
          ).map((name) => group + name)
          // The second time shows that nothing came in between.
          const heard = yield* collect(some, 2 * expected.length)
          assert.deepStrictEqual(heard.map(({ channel }) => channel), [...expected, ...expected])
        }))))

    it.effect("keeps a subscription for as long as nothing comes", () =>
      Effect.gen(function*() {
        const pubsub = yield* PubSub
        const channel = Numbers("idle")
        const numbers = yield* pubsub.subscribeScoped(channel)
        yield* elapse("100 millis")
        yield* pubsub.publish(channel, 1)
        assert.deepStrictEqual(yield* collect(numbers, 1), [1])
      }))

    badInput(it)
  })

const asExpression = (part: string) =>
  part === "*" ? ".*" : part === "?" ? "." : part.startsWith("[") ? part : part.replace(/^[{]$/, "\\{")

const unique = Effect.sync(() => crypto.randomUUID())

const dropped = Effect.map(Metric.snapshot, (metrics) => {
  const found = metrics.find(({ id }) => id === "redis_pubsub_dropped")
  return found?.type === "Counter" ? Number(found.state.count) : 0
})
