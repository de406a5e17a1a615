/** PubSub: its contract on both engines, and what is true on Redis only. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, References, Schema, Scope, Stream } from "effect"
import * as Channel from "../src/Channel.ts"
import { PubSub, PubSubLive } from "../src/PubSub.ts"
import { RedisClient } from "../src/RedisClient.ts"
import type { RedisSettings } from "../src/RedisConfig.ts"
import type { RedisError } from "../src/RedisError.ts"
import { pubSub } from "./contract/pubSub.ts"
import { elapseLive, elapseTest } from "./support/elapse.ts"
import { Proxy } from "./support/proxy.ts"
import { RedisServer } from "./support/redisServer.ts"
import { sharedRedisUrl, uniqueNamespace } from "./support/sharedRedis.ts"

const onRedis = (settings: RedisSettings = {}) =>
  Layer.suspend(() =>
    Layer.provideMerge(
      PubSubLive,
      RedisClient.layer({ url: sharedRedisUrl(), namespace: uniqueNamespace(), ...settings })
    )
  )

pubSub("memory", PubSub.layerMemory, elapseTest)
pubSub("redis", onRedis(), elapseLive, { excludeTestServices: true })

const News = Channel.make("news", Schema.String)

const collect = <A, E>(stream: Stream.Stream<A, E>, count: number) => Stream.runCollect(Stream.take(stream, count))

const numsub = (channel: string) =>
  Effect.flatMap(
    RedisClient,
    ({ key, use }) =>
      Effect.map(use("pubsub", (client) => client.pubsub("NUMSUB", key("channel", channel))), ([, count]) =>
        Number(count))
  )

const subscribers = (server: RedisServer) => server.clients(({ sub, psub }) => sub !== "0" || psub !== "0")

/** A server of the test's own, with PubSub on it. */
const withServer = <A, E>(test: (server: RedisServer) => Effect.Effect<A, E, PubSub | RedisClient | Scope.Scope>) =>
  Effect.scoped(Effect.gen(function*() {
    const server = yield* RedisServer.start()
    return yield* Effect.provide(test(server), onRedis({ url: server.url }))
  }))

/** PubSub through a proxy to the shared server. */
const withProxy = <A, E>(test: (proxy: Proxy) => Effect.Effect<A, E, PubSub | RedisClient | Scope.Scope>) =>
  Effect.scoped(Effect.gen(function*() {
    const proxy = yield* Proxy.start({ port: Number(new URL(sharedRedisUrl()).port) })
    return yield* Effect.provide(test(proxy), onRedis({ url: proxy.url }))
  }))

describe("PubSub on a server", () => {
  it.live("subscribes once for all local subscribers, with the first, and unsubscribes after the last", () =>
    Effect.gen(function*() {
      const pubsub = yield* PubSub
      const others = yield* Scope.make()
      yield* Effect.asVoid(Scope.provide(pubsub.subscribeScoped(Channel.make("other", Schema.String)), others))
      const scopes = yield* Effect.all(Array.from({ length: 20 }, () => Scope.make()))
      assert.strictEqual(yield* numsub("news"), 0)
      for (const scope of scopes) {
        yield* Effect.asVoid(Scope.provide(pubsub.subscribeScoped(News), scope))
        assert.strictEqual(yield* numsub("news"), 1)
      }
      for (const scope of scopes) {
        assert.strictEqual(yield* numsub("news"), 1)
        yield* Scope.close(scope, Exit.void)
      }
      assert.strictEqual(yield* numsub("news"), 0)
      assert.strictEqual(yield* numsub("other"), 1)
      yield* Scope.close(others, Exit.void)
      assert.strictEqual(yield* numsub("other"), 0)
    }).pipe(Effect.provide(onRedis())))

  it.live("opens one connection with the first subscriber and closes it after the last", () =>
    withServer((server) =>
      Effect.gen(function*() {
        const pubsub = yield* PubSub
        const connected = Effect.map(server.clients(), ({ length }) => length)
        yield* pubsub.publish(News, "nobody")
        assert.strictEqual(yield* connected, 1)
        for (let round = 0; round < 3; round++) {
          yield* Effect.scoped(Effect.gen(function*() {
            yield* Effect.asVoid(pubsub.subscribeScoped(News))
            yield* Effect.asVoid(pubsub.subscribeScoped(Channel.make("other", Schema.String)))
            yield* Effect.asVoid(pubsub.eventsScoped(Channel.pattern("*", Schema.String)))
            assert.strictEqual(yield* connected, 2)
            const [one] = yield* subscribers(server)
            assert.deepStrictEqual([one?.["sub"], one?.["psub"]], ["2", "1"])
          }))
          yield* eventually(Effect.map(connected, (count) => count === 1))
        }
      })
    ))

  it.live("says that there was a gap each time the connection was lost, and goes on", () =>
    withServer((server) =>
      Effect.gen(function*() {
        const pubsub = yield* PubSub
        const events = yield* pubsub.eventsScoped(News)
        const all = yield* pubsub.eventsScoped(Channel.pattern("*", Schema.String))
        const messages = yield* pubsub.subscribeScoped(News)
        const seen: Array<Channel.Event<string>> = []
        const seenByPattern: Array<Channel.Event<string>> = []
        yield* Effect.forkScoped(Stream.runForEach(events, (event) => Effect.sync(() => seen.push(event))))
        yield* Effect.forkScoped(Stream.runForEach(all, (event) => Effect.sync(() => seenByPattern.push(event))))
        for (let round = 1; round <= 5; round++) {
          yield* server.cli("CLIENT", "KILL", "TYPE", "pubsub")
          yield* eventually(Effect.sync(() => seen.length === 2 * round - 1 && seenByPattern.length === 2 * round - 1))
          assert.strictEqual(yield* pubsub.publish(News, `after ${round}`), 2)
          yield* eventually(Effect.sync(() => seen.length === 2 * round && seenByPattern.length === 2 * round))
        }
        const rounds = [1, 2, 3, 4, 5]
        const gaps = (channel: string) =>
          rounds.flatMap((round): Array<Channel.Event<string>> => [
            { _tag: "Gap", channel, epoch: round + 1 },
            { _tag: "Message", channel: "news", message: `after ${round}` }
          ])
        assert.deepStrictEqual(seen, gaps("news"))
        assert.deepStrictEqual(seenByPattern, gaps("*"))
        assert.deepStrictEqual(yield* collect(messages, 5), rounds.map((round) => `after ${round}`))
      })
    ))

  it.live("says that there was a gap after the server came back, and goes on", () =>
    withServer((server) =>
      Effect.gen(function*() {
        const pubsub = yield* PubSub
        const events = yield* pubsub.eventsScoped(News)
        yield* pubsub.publish(News, "before")
        assert.deepStrictEqual(yield* collect(events, 1), [{ _tag: "Message", channel: "news", message: "before" }])
        yield* server.restart
        assert.deepStrictEqual(yield* collect(events, 1), [{ _tag: "Gap", channel: "news", epoch: 2 }])
        yield* pubsub.publish(News, "after")
        assert.deepStrictEqual(yield* collect(events, 1), [{ _tag: "Message", channel: "news", message: "after" }])
      })
    ))

  it.live("fails a stream that the server does not take back", () =>
    withServer((server) =>
      Effect.gen(function*() {
        const pubsub = yield* PubSub
        const messages = yield* pubsub.subscribeScoped(News)
        yield* server.cli("ACL", "SETUSER", "default", "-subscribe")
        yield* server.cli("CLIENT", "KILL", "TYPE", "pubsub")
        const error = yield* Effect.flip(Stream.runDrain(messages))
        assert.strictEqual(error._tag, "RedisError")
        assert.deepStrictEqual([error.reason, error.outcome], ["no-permission", "Rejected"])
        assert.strictEqual((yield* Effect.flip(pubsub.subscribeScoped(News)))._tag, "RedisError")
      })
    ))

  it.live("ends its streams when the layer's scope closes, and leaves no connection", () =>
    Effect.scoped(Effect.gen(function*() {
      const server = yield* RedisServer.start()
      const scope = yield* Scope.make()
      const services = yield* Scope.provide(Layer.build(onRedis({ url: server.url })), scope)
      const inner = yield* Scope.make()
      const messages = yield* Effect.flatMap(PubSub, (pubsub) => pubsub.subscribeScoped(News)).pipe(
        Effect.provide(services),
        Scope.provide(inner)
      )
      const running = yield* Effect.forkChild(Stream.runCollect(messages))
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(yield* Fiber.join(running), [])
      yield* Scope.close(inner, Exit.void)
      yield* eventually(Effect.map(server.clients(), ({ length }) => length === 0))
      const late = yield* Effect.flatMap(PubSub, (pubsub) => pubsub.subscribeScoped(News)).pipe(
        Effect.provide(services),
        Effect.scoped,
        Effect.flip
      )
      assert.strictEqual(late._tag, "RedisError")
      assert.lengthOf(yield* server.clients(), 0)
    })))

  it.live("lets go at once while the server is away", () =>
    withServer((server) =>
      Effect.gen(function*() {
        const pubsub = yield* PubSub
        const kept = yield* pubsub.eventsScoped(Channel.make("kept", Schema.String))
        const scope = yield* Scope.make()
        yield* Effect.asVoid(Scope.provide(pubsub.subscribeScoped(News), scope))
        yield* server.kill()
        const gone = yield* Effect.flip(Effect.timeout(pubsub.publish(News, "x"), "50 millis"))
        assert.include(["TimeoutError", "RedisError"], gone._tag)
        const before = performance.now()
        yield* Scope.close(scope, Exit.void)
        assert.isBelow(performance.now() - before, 500)
        yield* server.restart
        assert.strictEqual((yield* collect(kept, 1))[0]?._tag, "Gap")
        assert.strictEqual(yield* numsub("news"), 0)
      })
    ))

  it.live("exchanges messages between clients, and shared ones between namespaces", () =>
    Effect.gen(function*() {
      const namespace = uniqueNamespace()
      const other = uniqueNamespace()
      const open = (of: string) =>
        Effect.map(Layer.build(onRedis({ namespace: of })), (built) => Effect.provide(PubSub, built))
      const [one, two, stranger] = yield* Effect.all([
        yield* open(namespace),
        yield* open(namespace),
        yield* open(other)
      ])
      const shared = Channel.make(`shared ${namespace}`, Schema.String, { shared: true })
      const heard = yield* two.subscribeScoped(News)
      const heardElsewhere = yield* stranger.subscribeScoped(News)
      const sharedElsewhere = yield* stranger.subscribeScoped(shared)
      assert.strictEqual(yield* one.publish(News, "to two"), 1)
      yield* stranger.publish(News, "to itself")
      assert.strictEqual(yield* one.publish(shared, "to the stranger"), 1)
      assert.deepStrictEqual(yield* collect(heard, 1), ["to two"])
      assert.deepStrictEqual(yield* collect(heardElsewhere, 1), ["to itself"])
      assert.deepStrictEqual(yield* collect(sharedElsewhere, 1), ["to the stranger"])
      yield* Effect.asVoid(one.subscribeScoped(News))
      assert.strictEqual(yield* one.publish(News, "to both"), 2)
    }).pipe(Effect.scoped))

  it.live("keeps a namespace with glob characters from acting as one", () =>
    Effect.gen(function*() {
      const suffix = uniqueNamespace()
      const build = (namespace: string) =>
        Effect.map(Layer.build(onRedis({ namespace })), (built) => Effect.provide(PubSub, built))
      const glob = yield* yield* build(`*?[a-z]${suffix}`)
      const plain = yield* yield* build(`xya${suffix}`)
      const events = yield* glob.eventsScoped(Channel.pattern("*", Schema.String))
      assert.strictEqual(yield* plain.publish(News, "not for you"), 0)
      assert.strictEqual(yield* glob.publish(News, "for you"), 1)
      assert.deepStrictEqual(yield* collect(events, 1), [{ _tag: "Message", channel: "news", message: "for you" }])
    }).pipe(Effect.scoped))

  it.live("shows corrupt payloads as undecodable, and leaves out channels that it would never spell so", () =>
    Effect.gen(function*() {
      const pubsub = yield* PubSub
      const { key, use } = yield* RedisClient
      const events = yield* pubsub.eventsScoped(News)
      const all = yield* pubsub.eventsScoped(Channel.pattern("*", Schema.String))
      for (const payload of ["{\"half", "", "\u0000\u0001", "42"]) {
        yield* use("publish", (client) => client.publish(key("channel", "news"), payload))
      }
      yield* use("publish", (client) => client.publish(key("channel", "%zz"), "\"strange\""))
      yield* pubsub.publish(News, "fine")
      const tags = ["Undecodable", "Undecodable", "Undecodable", "Undecodable", "Message"]
      assert.deepStrictEqual((yield* collect(events, 5)).map(({ _tag }) => _tag), tags)
      assert.deepStrictEqual((yield* collect(all, 5)).map(({ _tag }) => _tag), tags)
    }).pipe(Effect.scoped, Effect.provide(onRedis())))

  it.live.each(
    [
      ["alone, with a connection that comes and goes with them", false],
      ["beside another subscriber, on a connection that stays", true]
    ] as const
  )(
    "ends with the right subscription after many race to come and go %s",
    ([, beside]) =>
      withServer((server) =>
        Effect.gen(function*() {
          const pubsub = yield* PubSub
          if (beside) yield* Effect.asVoid(pubsub.subscribeScoped(Channel.make("other", Schema.String)))
          for (let round = 0; round < 6; round++) {
            const comer = (i: number) => {
              const visit = Effect.scoped(Effect.andThen(pubsub.subscribeScoped(News), Effect.sleep(i % 7)))
              const perhapsCut = i % 5 === 0 ? Effect.asVoid(Effect.timeoutOption(visit, i % 3)) : visit
              return Effect.andThen(Effect.sleep(i % 11), perhapsCut)
            }
            const crowd = Effect.forEach(Array.from({ length: 100 }, (_, i) => i), comer, {
              concurrency: "unbounded",
              discard: true
            })
            // So few that the channel is empty most of the time.
            const few = Effect.forEach(
              Array.from({ length: 150 }),
              () => Effect.scoped(Effect.asVoid(pubsub.subscribeScoped(News))),
              { concurrency: 3, discard: true }
            )
            const race = Effect.andThen(crowd, few).pipe(
              // Fibers then take turns every few steps, not only where they wait; with fewer than 5 they get nowhere.
              Effect.provideService(References.MaxOpsBeforeYield, 5 + round)
            )
            yield* race
            assert.strictEqual(yield* numsub("news"), 0)
            yield* Effect.scoped(Effect.gen(function*() {
              const racing = yield* Effect.forkChild(race)
              const messages = yield* pubsub.subscribeScoped(News)
              yield* Fiber.join(racing)
              assert.strictEqual(yield* numsub("news"), 1)
              assert.lengthOf(yield* subscribers(server), 1)
              yield* pubsub.publish(News, "still here")
              assert.deepStrictEqual(yield* collect(messages, 1), ["still here"])
            }))
            yield* eventually(Effect.map(server.clients(), ({ length }) => length === (beside ? 2 : 1)))
          }
        })
      )
  )

  it.live("ends with the right subscription when the connection breaks while they race", () =>
    withServer((server) =>
      Effect.gen(function*() {
        const pubsub = yield* PubSub
        const events = yield* pubsub.eventsScoped(News)
        const other = Channel.make("other", Schema.String)
        yield* Effect.asVoid(pubsub.subscribeScoped(other))
        const seen: Array<Channel.Event<string>> = []
        yield* Effect.forkScoped(Stream.runForEach(events, (event) => Effect.sync(() => seen.push(event))))
        const comer = (i: number) =>
          Effect.scoped(
            Effect.andThen(pubsub.subscribeScoped(Channel.make(`c${i % 4}`, Schema.String)), Effect.sleep(i % 9))
          )
        for (let round = 1; round <= 3; round++) {
          const racing = yield* Effect.forkChild(
            Effect.all(Array.from({ length: 100 }, (_, i) => comer(i)), { concurrency: 20, discard: true })
          )
          yield* Effect.sleep(5)
          yield* server.cli("CLIENT", "KILL", "TYPE", "pubsub")
          yield* Fiber.join(racing)
          yield* eventually(Effect.sync(() => seen.length === round))
          yield* eventually(Effect.map(numsub("other"), (count) => count === 1))
          for (const name of ["c0", "c1", "c2", "c3"]) assert.strictEqual(yield* numsub(name), 0)
          assert.strictEqual(yield* numsub("news"), 1)
        }
      })
    ))

  it.live("asks again when the acknowledgement is lost", () =>
    withProxy((proxy) =>
      Effect.gen(function*() {
        const pubsub = yield* PubSub
        yield* Effect.asVoid(pubsub.subscribeScoped(Channel.make("other", Schema.String)))
        yield* proxy.dropNextReply("news")
        const messages = yield* pubsub.subscribeScoped(News)
        assert.strictEqual(yield* pubsub.publish(News, "heard"), 1)
        assert.deepStrictEqual(yield* collect(messages, 1), ["heard"])
      })
    ))

  it.live("does not publish twice when the reply is lost, and says that it may have published", () =>
    withProxy((proxy) =>
      Effect.gen(function*() {
        const pubsub = yield* PubSub
        const direct = yield* Effect.provide(
          PubSub,
          yield* Layer.build(onRedis({ namespace: (yield* RedisClient).namespace }))
        )
        const messages = yield* direct.subscribeScoped(News)
        yield* proxy.dropNextReply("once")
        const error = yield* Effect.flip(pubsub.publish(News, "once"))
        assert.deepStrictEqual([error._tag, (error as RedisError).outcome], ["RedisError", "Unknown"])
        yield* proxy.dropNextReply("batch")
        const batch = yield* Effect.flip(pubsub.publishAll(News, ["batch 1", "batch 2"]))
        assert.deepStrictEqual([batch._tag, (batch as RedisError).outcome], ["RedisError", "Unknown"])
        yield* pubsub.publish(News, "last")
        const heard = yield* Stream.runCollect(Stream.takeUntil(messages, (message) => message === "last"))
        assert.deepStrictEqual([...new Set(heard)], [...heard])
        assert.deepStrictEqual(heard.slice(0, 1), ["once"])
      })
    ))
})

/** Asks again every 5 ms, for 5 seconds. */
const eventually = <E, R>(check: Effect.Effect<boolean, E, R>): Effect.Effect<void, E, R> =>
  Effect.gen(function*() {
    const deadline = performance.now() + 5000
    while (!(yield* check)) {
      if (performance.now() > deadline) assert.fail("It did not come true within 5 seconds")
      yield* Effect.sleep(5)
    }
  })
