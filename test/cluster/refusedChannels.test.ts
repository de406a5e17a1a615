/** Channels that a server refuses: said once, and not asked for again. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import type { RedisClient, SubscriptionKind } from "../../src/RedisClient.ts"
import type { RedisError } from "../../src/RedisError.ts"
import type { ClusterNode } from "../support/redisCluster.ts"
import { anotherMaster, connectTo, suiteCluster } from "../support/suiteCluster.ts"
import { until } from "../support/until.ts"

const cluster = suiteCluster({ masters: 2, replicas: 0, acl: ["app on >app-secret ~* &* +@all"] })

const connected = Effect.suspend(() => connectTo(cluster(), { username: "app", password: Redacted.make("app-secret") }))

/** Which channels the user may hear there. */
const allow = (node: ClusterNode, ...channels: ReadonlyArray<string>) =>
  node.cli("ACL", "SETUSER", "app", "resetchannels", ...channels.map((channel) => `&${channel}`))

/** How often a server has refused to subscribe somebody, since it was asked to count. */
const refusals = (node: ClusterNode, command: "subscribe" | "ssubscribe" = "ssubscribe") =>
  Effect.map(
    node.cli("INFO", "commandstats"),
    (text) => Number(new RegExp(`cmdstat_${command}:.*rejected_calls=(\\d+)`).exec(String(text))?.[1] ?? 0)
  )

/** Counts at all servers from here on. */
const recount = Effect.suspend(() =>
  Effect.forEach(cluster().nodes, (node) => node.cli("CONFIG", "RESETSTAT"), { discard: true })
)

/** What a listener is told. */
const listen = (client: RedisClient["Service"], channel: string, kind: SubscriptionKind = "shard") => {
  const told: Array<string> = []
  const listener = {
    onMessage: (message: string) => void told.push(message),
    onGap: () => void told.push("gap"),
    onLost: ({ reason }: RedisError) => void told.push(`lost: ${reason}`)
  }
  return Effect.as(client.subscribe(kind, channel, listener), told)
}

const isTold = (told: ReadonlyArray<string>, what: string) =>
  until(`"${what}" is told`, async () => {
    if (!told.includes(what)) throw new Error(`Only ${told.join()}`)
  })

/** A channel's name, in the same slot as `channel`. */
const beside = (channel: string) => `{${channel}}:beside`

/** Breaks the subscriptions' connection to a server, and waits until `told`, which listens there too, is told so. */
const cut = (client: RedisClient["Service"], node: ClusterNode, told: Array<string>) =>
  Effect.gen(function*() {
    told.length = 0
    const connections = yield* node.clients(({ name }) => name === `${client.namespace}:subscriptions`)
    assert.lengthOf(connections, 1)
    yield* node.cli("CLIENT", "KILL", "ID", connections[0]!["id"]!)
    yield* isTold(told, "gap")
  })

describe("A sharded channel that its server refuses", () => {
  it.live("is asked for once", () =>
    Effect.gen(function*() {
      const client = yield* connected
      const owner = yield* cluster().masterOf("refused")
      yield* allow(owner, "another")
      yield* recount
      const error = yield* Effect.flip(listen(client, "refused"))
      assert.deepInclude(error, { command: "subscribe", reason: "no-permission", outcome: "Rejected" })
      assert.strictEqual(yield* refusals(owner), 1)
    }))

  it.live("once it was listened to is lost once, however often the connection breaks, and others go on", () =>
    Effect.gen(function*() {
      const client = yield* connected
      const owner = yield* cluster().masterOf("taken")
      yield* allow(owner, "*")
      const taken = yield* listen(client, "taken")
      const kept = yield* listen(client, beside("taken"))
      yield* recount
      // The server closes the connections of those who listen to what they may not hear.
      yield* allow(owner, beside("taken"))
      yield* isTold(taken, "lost: no-permission")
      yield* isTold(kept, "gap")
      for (let i = 0; i < 3; i++) yield* cut(client, owner, kept)
      assert.deepStrictEqual(taken, ["lost: no-permission"])
      assert.strictEqual(yield* refusals(owner), 1)

      // Who gets the right again subscribes again: the one that was told so hears no more.
      yield* allow(owner, "*")
      yield* cut(client, owner, kept)
      const again = yield* listen(client, "taken")
      yield* client.use("spublish", (redis) => redis.spublish("taken", "news"))
      yield* isTold(again, "news")
      assert.deepStrictEqual(taken, ["lost: no-permission"])
    }))

  it.live("as its slot has moved there is lost once, wherever slots move then", () =>
    Effect.gen(function*() {
      const client = yield* connected
      const from = yield* cluster().masterOf("moved")
      const to = yield* anotherMaster(cluster(), "moved")
      yield* allow(from, "*")
      yield* allow(to, "another")
      const told = yield* listen(client, "moved")
      yield* recount
      yield* cluster().migrate("moved", to)
      yield* isTold(told, "lost: no-permission")
      // The client hears of each move, and looks what it concerns.
      for (const key of ["one", "two", "three"]) {
        yield* cluster().migrate(key, yield* anotherMaster(cluster(), key))
        yield* client.use("set", (redis) => redis.set(key, "1"))
      }
      yield* allow(to, "*")
      yield* cluster().migrate("moved", from)
      yield* client.use("set", (redis) => redis.set("moved", "1"))
      yield* client.use("spublish", (redis) => redis.spublish("moved", "news"))
      assert.deepStrictEqual(told, ["lost: no-permission"])
      assert.strictEqual(yield* refusals(to), 1)
    }))
})

describe("A channel that its server refuses", () => {
  it.live("is asked for again by the next connection where nobody is told that it is lost", () =>
    Effect.gen(function*() {
      const client = yield* connected
      const owner = yield* cluster().masterOf(client.namespace)
      yield* allow(owner, "*")
      const told: Array<string> = []
      yield* client.subscribe("channel", "taken", {
        onMessage: (message) => void told.push(message),
        onGap: () => void told.push("gap")
      })
      const kept = yield* listen(client, "kept", "channel")
      yield* recount
      yield* allow(owner, "kept")
      yield* isTold(kept, "gap")
      assert.strictEqual(yield* refusals(owner, "subscribe"), 1)
      yield* allow(owner, "*")
      yield* cut(client, owner, kept)
      yield* isTold(told, "gap")
      yield* client.use("publish", (redis) => redis.publish("taken", "news"))
      yield* isTold(told, "news")
      assert.deepStrictEqual(told, ["gap", "news"])
    }))
})
