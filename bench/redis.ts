/** Everyday commands through the `Redis` service, from 50 callers at once. */
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

const commandCase = (
  operation: string,
  work: (client: RedisAdapter, next: () => number | undefined) => Promise<unknown>
): Case => {
  const id = `redis.${operation}.c50`
  return {
    name: id,
    figures: [{ id, unit: "ops/s", better: "more" }],
    about: `50 callers, 200 bytes, 1,000 keys; floor: ioredis with its default options`,
    isRate: true,
    size: 0,
    smokeSize: 0,
    systems,
    run: withAdapter<RedisAdapter>(systems, async (client, { seconds }, probe) => {
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

export const redisCases: ReadonlyArray<Case> = [
  commandCase("get", (client, next) =>
    client.get(50, mapped(next, keyOf), (found) => {
      if (found !== value) throw new Error("a value is wrong")
    })),
  commandCase("set", (client, next) => client.set(50, mapped(next, entry)))
]
