/** A scan finds every key that is there all the while, on all masters, also while slots move and masters change. */
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer, type Scope, Stream } from "effect"
import { Redis } from "../../src/Redis.ts"
import { RedisClient } from "../../src/RedisClient.ts"
import { type ClusterNode, RedisCluster, type SlotMigration } from "../support/redisCluster.ts"
import { settingsOf, suiteCluster } from "../support/suiteCluster.ts"

const cluster = suiteCluster()

const count = 300
const names = Array.from({ length: count }, (_, i) => `key ${i}`)

/** The service, its namespace, and a few hundred keys in it. */
const filled = (all: RedisCluster): Effect.Effect<
  {
    readonly redis: Redis["Service"]
    readonly namespace: string
  },
  never,
  Scope.Scope
> =>
  Effect.gen(function*() {
    const settings = settingsOf(all, { commandTimeout: "3 seconds" })
    const context = yield* Layer.build(
      Layer.orDie(Layer.provideMerge(Redis.layer(settings), RedisClient.layer(settings)))
    )
    const redis = Context.get(context, Redis)
    const { namespace, pipeline } = Context.get(context, RedisClient)
    yield* Effect.orDie(pipeline((all) => names.reduce((all, name) => all.set(`${namespace}:${name}`, "1"), all)))
    return { redis, namespace }
  })

/** Who has which key. */
const ownersOf = (all: RedisCluster, namespace: string) =>
  Effect.map(
    Effect.forEach(names, (name) => all.masterOf(`${namespace}:${name}`)),
    (owners) => new Map(names.map((name, i) => [name, owners[i]!]))
  )

/** What a scan finds when `action` runs as soon as it has found the first of some keys. */
const found = (
  redis: Redis["Service"],
  action: Effect.Effect<unknown>,
  isTime: (name: string) => boolean = () => true
) =>
  Effect.gen(function*() {
    let acted = false
    const seen = new Set<string>()
    yield* Stream.runForEach(Stream.chunks(redis.scan("*", { count: 20 })), (keys) => {
      for (const key of keys) seen.add(key)
      if (acted || !keys.some(isTime)) return Effect.void
      acted = true
      return action
    })
    assert.isTrue(acted)
    return seen
  })

const missing = (seen: ReadonlySet<string>) => names.filter((name) => !seen.has(name))

/** Which servers a scan asks, in this order. */
const inOrder = (all: RedisCluster) =>
  all.nodes.slice(0, 3).toSorted((a, b) => String(a.port).localeCompare(String(b.port)))

describe("scan", () => {
  it.live("finds all keys of all masters, each once while nothing moves, and those of a pattern", () =>
    Effect.gen(function*() {
      const { redis } = yield* filled(cluster())
      const keys = yield* Stream.runCollect(redis.scan("*", { count: 10_000 }))
      assert.lengthOf(keys, count)
      assert.deepStrictEqual(missing(new Set(keys)), [])
      assert.sameMembers(yield* Stream.runCollect(redis.scan("key 1?")), names.filter((name) => /^key 1.$/.test(name)))
      assert.deepStrictEqual(yield* Stream.runCollect(redis.scan("nothing*")), [])
    }))

  it.live("misses nothing when slots move to a server that it has finished", () =>
    Effect.gen(function*() {
      const { namespace, redis } = yield* filled(cluster())
      const [first, second, last] = inOrder(cluster())
      const owners = yield* ownersOf(cluster(), namespace)
      const moving = names.filter((name) => owners.get(name) === last).slice(0, 5).map((name) => `${namespace}:${name}`)
      const move = Effect.forEach(moving, (key) => cluster().migrate(key, first!))
      assert.deepStrictEqual(missing(yield* found(redis, move, (name) => owners.get(name) === second)), [])
      for (const key of moving) yield* cluster().migrate(key, last!)
    }))

  it.live("misses nothing of a slot that is on its way when it begins, or when it ends", () =>
    Effect.gen(function*() {
      const { namespace, redis } = yield* filled(cluster())
      const [first, second, last] = inOrder(cluster())
      const owners = yield* ownersOf(cluster(), namespace)
      const fromSecond = (name: string) => owners.get(name) === second
      const keyOf = (node: ClusterNode | undefined) =>
        `${namespace}:${names.find((name) => owners.get(name) === node)!}`
      const half = yield* cluster().beginMigration(keyOf(last), first!)
      assert.deepStrictEqual(missing(yield* found(redis, half.moveKeys(100), fromSecond)), [])
      assert.strictEqual(yield* half.keysLeft, 0)
      yield* half.cancel
      // There and back again: nobody sees that by who has the slot.
      const back = yield* cluster().beginMigration(keyOf(first), last!)
      yield* back.moveKeys(100)
      assert.deepStrictEqual(missing(yield* found(redis, back.cancel, fromSecond)), [])
      let late: SlotMigration | undefined
      const begin = Effect.flatMap(cluster().beginMigration(keyOf(last), first!), (migration) => {
        late = migration
        return migration.moveKeys(100)
      })
      assert.deepStrictEqual(missing(yield* found(redis, begin, fromSecond)), [])
      yield* late!.cancel
    }))

  for (
    const [what, replace] of [
      ["is told to give way", (all: RedisCluster) => all.failover],
      [
        "dies",
        (all: RedisCluster) => (master: ClusterNode) => Effect.andThen(master.kill(), all.settled)
      ]
    ] as const
  ) {
    it.live(`misses nothing when the master ${what} that it is asking`, () =>
      Effect.gen(function*() {
        const all = yield* RedisCluster.start({ nodeTimeoutMillis: 500 })
        const { redis } = yield* filled(all)
        yield* Effect.forEach(all.nodes.slice(0, 3), (node) => node.cli("WAIT", 1, 1000))
        const [first] = inOrder(all)
        assert.deepStrictEqual(missing(yield* found(redis, replace(all)(first!))), [])
      }), 20_000)
  }
})
