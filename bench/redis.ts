/** Everyday commands through the `Redis` service, from 50 callers at once, on one server and on a Cluster. */
import { counted, forSeconds } from "./support/callers.ts"
import { type Case, rate, withAdapter } from "./support/case.ts"

/** A client as the measurements use it. */
export interface RedisAdapter {
  /** Sets what `next` yields, from so many callers at once, until it yields nothing. */
  readonly set: (callers: number, next: () => Entry | undefined) => Promise<unknown>
  /** Gets the keys that `next` yields, and hands each value to `onValue`. */
  readonly get: (
    callers: number,
    next: () => string | undefined,
    onValue: (value: string | null) => void
  ) => Promise<unknown>
  readonly close: () => Promise<unknown>
}

export interface Entry {
  readonly key: string
  readonly value: string
}

const value = "x".repeat(200)
const keyCount = 1000
const keys = Array.from({ length: keyCount }, (_, i) => `user:${i}`)
const keyOf = (i: number) => keys[i % keyCount]!
const entry = (i: number): Entry => ({ key: keyOf(i), value })

const systems = {
  "ours": "ours/redis.ts",
  "floor": "floors/redis.ts",
  "ioredis-autopipelining": "peers/ioredisAutoPipelining.mjs",
  "node-redis": "peers/nodeRedis.mjs"
}

/** Peers that batch calls on purpose have no such thing on a Cluster. */
const clusterSystems = { "ours": "ours/redisCluster.ts", "floor": "floors/redisCluster.ts" }

const commandCase = (
  where: "server" | "cluster",
  operation: string,
  work: (client: RedisAdapter, next: () => number | undefined) => Promise<unknown>
): Case => {
  const onCluster = where === "cluster"
  const id = onCluster ? `redis.cluster.${operation}.c50` : `redis.${operation}.c50`
  const adapters = onCluster ? clusterSystems : systems
  return {
    name: id,
    figures: [{ id, unit: "ops/s", better: "more" }],
    about: `50 callers, 200 bytes, 1,000 keys${
      onCluster ? " on three masters" : ""
    }; floor: ioredis with its default options`,
    isRate: true,
    size: 0,
    smokeSize: 0,
    systems: adapters,
    onCluster,
    run: withAdapter<RedisAdapter>(adapters, async (client, { seconds }, probe) => {
      await client.set(50, counted(keyCount, entry))
      const cost = await probe.cost(async () => {
        const source = forSeconds(seconds, (i) => i)
        await work(client, source.next)
        return { n: source.made() }
      })
      return rate(id, cost)
    })
  }
}

const mapped = <A>(next: () => number | undefined, make: (i: number) => A) => (): A | undefined => {
  const i = next()
  return i === undefined ? undefined : make(i)
}

const getting = (client: RedisAdapter, next: () => number | undefined) =>
  client.get(50, mapped(next, keyOf), (found) => {
    if (found !== value) throw new Error("a value is wrong")
  })

const setting = (client: RedisAdapter, next: () => number | undefined) => client.set(50, mapped(next, entry))

export const redisCases: ReadonlyArray<Case> = (["server", "cluster"] as const).flatMap((where) => [
  commandCase(where, "get", getting),
  commandCase(where, "set", setting)
])
