/** Calls whose slot moves: MOVED, ASK and TRYAGAIN, as one caller sees them. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Result, Schema } from "effect"
import * as RedisScript from "../../src/RedisScript.ts"
import { elapseLive } from "../support/elapse.ts"
import { anotherMaster, connectTo, suiteCluster } from "../support/suiteCluster.ts"

const cluster = suiteCluster({ masters: 3, replicas: 0 })

let tags = 0
/** Of a slot that no other test moves. */
const newTag = () => `{moving ${tags++}}`

const increase = RedisScript.make({
  name: "increase",
  keys: ["n"],
  result: Schema.Finite,
  lua: "return redis.call('INCR', n)"
})
const both = RedisScript.make({
  name: "both",
  keys: ["one", "two"],
  result: Schema.Finite,
  lua: "return redis.call('INCR', one) + redis.call('INCR', two)"
})

/** A client, and a slot of which the key `here` has not moved yet, and the key `there` has. */
const halfMigrated = (commandTimeout: "3 seconds" | "300 millis" = "3 seconds") =>
  Effect.gen(function*() {
    const tag = newTag()
    const client = yield* connectTo(cluster(), { commandTimeout })
    const from = yield* cluster().masterOf(tag)
    const to = yield* anotherMaster(cluster(), tag)
    yield* Effect.forEach(["a", "b"], (name) => from.cli("SET", tag + name, "1"))
    const migration = yield* cluster().beginMigration(tag, to)
    assert.strictEqual(yield* migration.moveKeys(1), 1)
    const [here = ""] = (yield* from.cli("CLUSTER", "GETKEYSINSLOT", migration.slot, 1)) as ReadonlyArray<string>
    const there = here === `${tag}a` ? `${tag}b` : `${tag}a`
    return { client, from, to, migration, here, there, absent: `${tag}absent` }
  })

describe("A slot that has moved", () => {
  it.live("is followed by calls of all kinds, of which each runs once", () =>
    Effect.gen(function*() {
      const client = yield* connectTo(cluster())
      const tags = Array.from({ length: 4 }, newTag)
      for (const tag of tags) yield* cluster().migrate(tag, yield* anotherMaster(cluster(), tag))
      const [a = "", b = "", c = "", d = ""] = tags.map((tag) => `${tag}n`)
      assert.strictEqual(yield* client.use("incr", (redis) => redis.incr(a)), 1)
      assert.strictEqual(yield* client.use("incr", (redis) => redis.incr(b), { key: b }), 1)
      assert.deepStrictEqual(yield* client.multi((all) => all.incr(c).incr(c)), [1, 2])
      assert.strictEqual(yield* client.script(increase, { n: d }), 1)
      yield* cluster().settled
      for (const tag of tags) yield* cluster().migrate(tag, yield* anotherMaster(cluster(), tag))
      const piped = yield* client.pipeline((all) => all.incr(a).incr(b).incr(c).incr(d).incr(a))
      assert.deepStrictEqual(piped, [2, 2, 3, 2, 3].map(Result.succeed))
    }))

  it.live("has a call not made again that sent several commands: some of them may have run", () =>
    Effect.gen(function*() {
      const client = yield* connectTo(cluster())
      const key = `${newTag()}n`
      const to = yield* anotherMaster(cluster(), key)
      let runs = 0
      const error = yield* Effect.flip(
        client.use("two", async (redis) => {
          runs++
          const first = await redis.incr(key)
          if (runs === 1) await Effect.runPromise(cluster().migrate(key, to))
          return [first, await redis.incr(key)]
        }, { key })
      )
      assert.deepInclude(error, { command: "two", reason: "cluster-down" })
      assert.strictEqual(runs, 1)
      assert.strictEqual(yield* to.cli("GET", key), "1")
    }))

  it.live("is not followed by a reserved connection, which finds its server when it is opened", () =>
    Effect.gen(function*() {
      const client = yield* connectTo(cluster())
      const key = `${newTag()}n`
      const incr = Effect.scoped(
        Effect.flatMap(client.reserveFor(key), ({ use }) => use("incr", (redis) => redis.incr(key)))
      )
      const own = yield* client.reserveFor(key)
      assert.strictEqual(yield* own.use("incr", (redis) => redis.incr(key)), 1)
      yield* cluster().migrate(key, yield* anotherMaster(cluster(), key))
      assert.deepInclude(yield* Effect.flip(own.use("incr", (redis) => redis.incr(key))), {
        reason: "cluster-down",
        outcome: "Rejected"
      })
      assert.strictEqual(yield* client.use("incr", (redis) => redis.incr(key)), 2)
      assert.strictEqual(yield* incr, 3)
    }))
})

describe("A slot that is on its way", () => {
  it.live("has each key read and written where it is, and new ones at the other end", () =>
    Effect.gen(function*() {
      const { absent, client, from, here, migration, there, to } = yield* halfMigrated()
      for (let i = 2; i <= 10; i++) {
        for (const key of [here, there]) {
          assert.strictEqual(yield* client.use("incr", (redis) => redis.incr(key)), i)
          assert.strictEqual(yield* client.use("get", (redis) => redis.get(key), { key, repeatable: true }), String(i))
        }
      }
      const piped = yield* client.pipeline((all) => all.incr(here).incr(there).incr(absent).get(there))
      assert.deepStrictEqual(piped, [11, 11, 1, "11"].map((reply) => Result.succeed(reply)))
      assert.strictEqual(yield* from.cli("GET", here), "11")
      const known = yield* to.cli("CLUSTER", "COUNTKEYSINSLOT", migration.slot)
      assert.strictEqual(known, 2)
      yield* migration.finish
      assert.deepStrictEqual(yield* client.use("mget", (redis) => redis.mget(here, there, absent)), ["11", "11", "1"])
    }))

  it.live("has a script on one key run where the key is, though that server does not know the script", () =>
    Effect.gen(function*() {
      const { absent, client, here, migration, there, to } = yield* halfMigrated()
      for (const [i, key] of [here, there, there].entries()) {
        yield* to.cli("SCRIPT", "FLUSH")
        assert.strictEqual(yield* client.script(increase, { n: key }), i === 2 ? 3 : 2)
      }
      assert.strictEqual(yield* client.script(increase, { n: absent }), 1)
      yield* migration.finish
    }))

  it.live("has what needs several keys wait until it has arrived", () =>
    Effect.gen(function*() {
      const { absent, client, here, migration, there } = yield* halfMigrated()
      const waiting = yield* Effect.forkChild(
        Effect.all([
          client.script(both, { one: here, two: there }),
          client.multi((all) => all.incr(absent).incr(absent)),
          client.use("mget", (redis) => redis.mget(here, there), { key: here, repeatable: true })
        ], { concurrency: "unbounded" })
      )
      yield* elapseLive("120 millis")
      assert.isUndefined(waiting.pollUnsafe())
      yield* migration.finish
      const [sum, pair, values] = yield* Fiber.join(waiting)
      assert.deepStrictEqual([sum, pair], [4, [1, 2]])
      assert.lengthOf(values, 2)
      assert.deepStrictEqual(yield* client.use("mget", (redis) => redis.mget(here, there)), ["2", "2"])
    }))

  it.live("has what needs several keys fail as cluster-down at the deadline, when it did not run", () =>
    Effect.gen(function*() {
      const { client, here, migration, there } = yield* halfMigrated("300 millis")
      const before = performance.now()
      const errors = yield* Effect.all([
        Effect.flip(client.script(both, { one: here, two: there })),
        Effect.flip(client.use("mget", (redis) => redis.mget(here, there)))
      ], { concurrency: "unbounded" })
      for (const error of errors) {
        assert.deepInclude(error, { reason: "cluster-down", outcome: "Rejected" })
        assert.match(error.detail, /^TRYAGAIN/)
      }
      assert.isAbove(performance.now() - before, 290)
      yield* migration.finish
      assert.deepStrictEqual(yield* client.use("mget", (redis) => redis.mget(here, there)), ["1", "1"])
    }))

  it.live("has a call of several commands not made again when the second has to wait", () =>
    Effect.gen(function*() {
      const { client, here, migration, there } = yield* halfMigrated()
      const error = yield* Effect.flip(
        client.use("two", (redis) => Promise.all([redis.incr(here), redis.del(here, there)]), { key: here })
      )
      assert.deepInclude(error, { command: "two", reason: "cluster-down" })
      assert.strictEqual(yield* client.use("get", (redis) => redis.get(here)), "2")
      yield* migration.finish
    }))

  it.live("may go back to where it was", () =>
    Effect.gen(function*() {
      const { client, from, here, migration, there } = yield* halfMigrated()
      assert.strictEqual(yield* client.use("incr", (redis) => redis.incr(there)), 2)
      yield* migration.cancel
      assert.strictEqual(yield* client.use("incr", (redis) => redis.incr(there)), 3)
      assert.strictEqual(yield* client.script(both, { one: here, two: there }), 6)
      assert.strictEqual(yield* cluster().masterOf(here), from)
    }))
})
