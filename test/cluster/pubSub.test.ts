/** Subscriptions go on when servers die and slots move, and say that something may have been missed. */
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Fiber, Layer, Result, Schema, Scope, Stream } from "effect"
import * as Channel from "../../src/Channel.ts"
import { spell as spelled } from "../../src/internal/subscription.ts"
import { PubSub } from "../../src/PubSub.ts"
import { RedisClient } from "../../src/RedisClient.ts"
import { elapseLive } from "../support/elapse.ts"
import { type ClusterNode, RedisCluster } from "../support/redisCluster.ts"
import { settingsOf, suiteCluster } from "../support/suiteCluster.ts"

const cluster = suiteCluster({ nodeTimeoutMillis: 500 })

const sharded = Channel.family((id: string) => `room ${id}`, Schema.Finite, { sharded: true })

interface Listening {
  /** What was heard so far: a number, or what else happened. */
  readonly heard: ReadonlyArray<number | string>
}

/** The service, and the client below it, as one process has them. */
const process = (all: RedisCluster) =>
  Effect.gen(function*() {
    const settings = settingsOf(all)
    const context = yield* Layer.build(Layer.orDie(Layer.provideMerge(PubSub.layer, RedisClient.layer(settings))))
    const pubsub = Context.get(context, PubSub)
    const listen = (channel: Channel.Channel<number>) =>
      Effect.gen(function*() {
        const events = yield* pubsub.eventsScoped(channel)
        const heard: Array<number | string> = []
        yield* Effect.forkScoped(
          Stream.runForEach(
            events,
            (event) => Effect.sync(() => heard.push(event._tag === "Message" ? event.message : event._tag))
          )
        )
        return { heard } satisfies Listening
      })
    return { pubsub, client: Context.get(context, RedisClient), namespace: settings.namespace!, listen }
  })

const until = (isSo: () => boolean) =>
  Effect.suspend(() => {
    const deadline = performance.now() + 10_000
    return Effect.repeat(
      Effect.delay(
        Effect.sync(() => {
          if (performance.now() > deadline) assert.fail("Not within 10 seconds")
        }),
        "5 millis"
      ),
      { until: isSo }
    )
  })

/** Publishes ever larger numbers until one is heard after a `Gap`, which comes first. */
const untilHeardAgain = (
  { pubsub }: { readonly pubsub: PubSub["Service"] },
  channel: Channel.Channel<number>,
  { heard }: Listening,
  from = 100
) =>
  Effect.gen(function*() {
    let next = from
    const publisher = yield* Effect.forkChild(
      Effect.forever(
        Effect.andThen(Effect.suspend(() => Effect.ignore(pubsub.publish(channel, next++))), elapseLive("5 millis"))
      )
    )
    const gaps = heard.filter((event) => event === "Gap").length
    yield* until(() => heard.lastIndexOf("Gap") >= 0 && typeof heard.at(-1) === "number")
    yield* Fiber.interrupt(publisher)
    return gaps
  })

/** How many listen to sharded channels, on each server. */
const subscriptions = (nodes: ReadonlyArray<ClusterNode>, channels: ReadonlyArray<string>) =>
  Effect.forEach(
    nodes.filter(({ state }) => state === "running"),
    (node) =>
      Effect.map(node.cli("PUBSUB", "SHARDNUMSUB", ...channels), (reply) =>
        (reply as ReadonlyArray<string | number>).reduce<number>((sum, value, i) =>
          sum + (i % 2 === 0 ? 0 : Number(value)), 0))
  )

const spell = (namespace: string, id: string) => Result.getOrThrow(spelled(namespace, sharded(id)))

describe("A channel", () => {
  it.live("is heard again, with a Gap, after the server of its subscription has died", () =>
    Effect.gen(function*() {
      const all = yield* process(cluster())
      const news = Channel.make("news", Schema.Finite)
      const listening = yield* all.listen(news)
      yield* all.pubsub.publish(news, 1)
      yield* until(() => listening.heard.length === 1)
      const [server] = (yield* Effect.forEach(cluster().nodes, (node) =>
        Effect.map(node.clients(({ name }) => name === `${all.namespace}:subscriptions`), (clients) =>
          clients.length > 0 ? [node] : []))).flat()
      yield* server!.kill()
      yield* untilHeardAgain(all, news, listening)
      assert.deepStrictEqual(listening.heard.slice(0, 2), [1, "Gap"])
      yield* server!.restart
      yield* cluster().settled
    }))

  it.live(
    "is heard again, with a Gap, after that server has left the Cluster and lives on alone",
    () =>
      Effect.gen(function*() {
        const own = yield* RedisCluster.start({ masters: 3, replicas: 0 })
        const all = yield* process(own)
        const news = Channel.make("news", Schema.Finite)
        const listening = yield* all.listen(news)
        const left = yield* own.masterOf(all.namespace)
        const others = own.nodes.filter((node) => node !== left)
        // Its slots go to another; then everybody forgets it, and it everybody.
        const [heir, other] = others
        // Whoever has the highest epoch is believed; who has lost all slots becomes a replica of the one that has them.
        yield* heir!.cli("CLUSTER", "BUMPEPOCH")
        const takeAll = `for slot = 0, 16383 do redis.call("CLUSTER", "SETSLOT", slot, "NODE", ARGV[1]) end`
        yield* heir!.cli("EVAL", takeAll, 0, heir!.id)
        for (const node of [left, other!]) {
          yield* Effect.repeat(Effect.delay(node.role, "20 millis"), { until: (role) => role !== "master" })
        }
        for (const node of others) {
          yield* node.cli("CLUSTER", "FORGET", left.id)
        }
        yield* left.cli("CLUSTER", "RESET")
        // Has it look who is there; by itself it does so every 15 seconds.
        yield* heir!.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        yield* untilHeardAgain(all, news, listening)
        assert.strictEqual(
          listening.heard.filter((event) => event === "Gap").length,
          1
        )
      }),
    20_000
  )
})

describe("A sharded channel", () => {
  it.live("follows its slot, with a Gap, and leaves nothing behind; others on the same server notice nothing", () =>
    Effect.gen(function*() {
      const all = yield* process(cluster())
      const from = yield* cluster().masterOf(spell(all.namespace, "0"))
      const ids: Array<string> = []
      for (let i = 0; ids.length < 3; i++) {
        if ((yield* cluster().masterOf(spell(all.namespace, String(i)))) === from) ids.push(String(i))
      }
      const [moving = "", ...staying] = ids
      const to = (yield* cluster().masters).find((master) => master !== from)!
      const listening = yield* all.listen(sharded(moving))
      const others = yield* Effect.forEach(staying, (id) => all.listen(sharded(id)))
      assert.strictEqual(yield* all.pubsub.publish(sharded(moving), 1), 1)
      yield* until(() => listening.heard.length === 1)

      yield* cluster().migrate(spell(all.namespace, moving), to)
      yield* untilHeardAgain(all, sharded(moving), listening)
      assert.deepStrictEqual(listening.heard.slice(0, 2), [1, "Gap"])
      assert.deepStrictEqual(yield* subscriptions([from, to], [spell(all.namespace, moving)]), [0, 1])
      for (const id of staying) assert.strictEqual(yield* all.pubsub.publish(sharded(id), 2), 1)
      yield* until(() => others.every(({ heard }) => heard.length > 0))
      assert.deepStrictEqual(others.map(({ heard }) => heard), [[2], [2]])

      // One who comes later finds it where it is, and disturbs nobody there.
      const gaps = listening.heard.filter((event) => event === "Gap").length
      const late = yield* process(cluster())
      assert.strictEqual(yield* late.pubsub.publish(sharded(moving), 3), 0)
      yield* all.listen(sharded(moving))
      yield* elapseLive("50 millis")
      assert.strictEqual(listening.heard.filter((event) => event === "Gap").length, gaps)
    }))

  it.live("is heard again, with a Gap, after the master of its slot has died", () =>
    Effect.gen(function*() {
      const all = yield* process(cluster())
      const listening = yield* all.listen(sharded("dies"))
      const also = yield* all.listen(sharded("dies"))
      const dead = yield* cluster().killMaster(spell(all.namespace, "dies"))
      yield* untilHeardAgain(all, sharded("dies"), listening)
      assert.strictEqual(listening.heard[0], "Gap")
      yield* until(() => typeof also.heard.at(-1) === "number")
      assert.strictEqual(also.heard[0], "Gap")
      yield* dead.restart
      yield* cluster().settled
      const numbers = yield* subscriptions(cluster().nodes, [spell(all.namespace, "dies")])
      assert.strictEqual(numbers.reduce((sum, count) => sum + count, 0), 1)
    }))

  it.live("that is subscribed while its master is dead is so at the successor, within the deadline", () =>
    Effect.gen(function*() {
      const all = yield* process(cluster())
      const channel = spell(all.namespace, "late")
      const dead = yield* cluster().killMaster(channel)
      const listening = yield* all.listen(sharded("late"))
      assert.strictEqual(yield* all.pubsub.publish(sharded("late"), 1), 1)
      yield* until(() => listening.heard.length > 0)
      yield* dead.restart
      yield* cluster().settled
    }))

  it.live("is one of many over all slots, each heard once; unsubscribing leaves nothing on any server", () =>
    Effect.gen(function*() {
      const all = yield* process(cluster())
      const ids = Array.from({ length: 120 }, (_, i) => `many ${i}`)
      const scope = yield* Scope.make()
      const listening = yield* Scope.provide(
        Effect.forEach(ids, (id) => all.listen(sharded(id)), { concurrency: "unbounded" }),
        scope
      )
      const counts = yield* Effect.forEach(ids, (id, i) => all.pubsub.publish(sharded(id), i), { concurrency: 20 })
      assert.deepStrictEqual(counts, ids.map(() => 1))
      yield* until(() => listening.every(({ heard }) => heard.length > 0))
      assert.deepStrictEqual(listening.map(({ heard }) => heard), ids.map((_, i) => [i]))
      const channels = ids.map((id) => spell(all.namespace, id))
      const masters = yield* cluster().masters
      const before = yield* subscriptions(masters, channels)
      assert.strictEqual(before.reduce((sum, count) => sum + count, 0), ids.length)
      assert.isTrue(before.every((count) => count > 0))
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(yield* subscriptions(cluster().nodes, channels), cluster().nodes.map(() => 0))
      for (const node of cluster().nodes) {
        assert.deepStrictEqual(yield* node.clients(({ name }) => name === `${all.namespace}:subscriptions`), [])
      }
    }))

  it.live("is heard by a process of its own after its slot has moved there and back", () =>
    Effect.gen(function*() {
      const all = yield* process(cluster())
      const channel = spell(all.namespace, "back")
      const from = yield* cluster().masterOf(channel)
      const to = (yield* cluster().masters).find((master) => master !== from)!
      const listening = yield* all.listen(sharded("back"))
      for (const next of [to, from]) {
        yield* cluster().migrate(channel, next)
        yield* cluster().settled
      }
      yield* untilHeardAgain(all, sharded("back"), listening)
      assert.strictEqual(listening.heard[0], "Gap")
      const numbers = yield* subscriptions([from, to], [channel])
      assert.deepStrictEqual(numbers, [1, 0])
    }))
})
