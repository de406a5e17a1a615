/** The everyday commands on plain data, as a server would run them, under Effect's Clock. */
import { Clock, Effect } from "effect"
import { RedisError, type RedisErrorReason } from "../RedisError.ts"
import { parseGlob } from "./byteGlob.ts"
import type { RedisEngine } from "./redisEngine.ts"

type Hash = Map<string, string>

interface Entry {
  readonly value: string | Hash
  readonly expiresAt: number
}

/** Keys of one program, gone with it. */
export const memoryEngine = (): RedisEngine => {
  const entries = new Map<string, Entry>()
  // What expired and is never asked for again would stay: swept out when the keys have doubled.
  let sweepAt = 1024

  const step = <A>(f: (now: number) => A): Effect.Effect<A> =>
    Clock.clockWith((clock) => Effect.succeed(f(clock.currentTimeMillisUnsafe())))

  const risky = <A>(command: string, f: (now: number) => A | Refusal): Effect.Effect<A, RedisError> =>
    Clock.clockWith((clock) => {
      const result = f(clock.currentTimeMillisUnsafe())
      if (!(result instanceof Refusal)) return Effect.succeed(result)
      return Effect.fail(
        new RedisError({ command, reason: result.reason, outcome: "Rejected", detail: result.detail })
      )
    })

  const find = (key: string, now: number): Entry | undefined => {
    const entry = entries.get(key)
    if (entry === undefined || entry.expiresAt > now) return entry
    entries.delete(key)
    return undefined
  }

  const text = (key: string, now: number): string | null | Refusal => {
    const value = find(key, now)?.value
    return value instanceof Map ? wrongType : value ?? null
  }

  const hash = (key: string, now: number): Hash | undefined | Refusal => {
    const value = find(key, now)?.value
    return typeof value === "string" ? wrongType : value
  }

  const store = (key: string, value: string | Hash, expiresAt: number, now: number): void => {
    entries.set(key, { value, expiresAt })
    if (entries.size < sweepAt) return
    for (const key of [...entries.keys()]) find(key, now)
    sweepAt = Math.max(1024, entries.size * 2)
  }

  return {
    get: (key) => risky("get", (now) => text(key, now)),
    getDel: (key) =>
      risky("getdel", (now) => {
        const value = text(key, now)
        if (typeof value === "string") entries.delete(key)
        return value
      }),
    getMany: (keys) =>
      step((now) =>
        keys.map((key) => {
          const value = text(key, now)
          return value instanceof Refusal ? null : value
        })
      ),
    set: (key, value, how) =>
      step((now) => {
        const entry = find(key, now)
        if (how?.onlyIf === "absent" && entry !== undefined) return false
        if (how?.onlyIf === "present" && entry === undefined) return false
        const expiresAt = how?.ttlMillis !== undefined
          ? now + how.ttlMillis
          : how?.keepTtl === true
          ? entry?.expiresAt ?? Infinity
          : Infinity
        store(key, value, expiresAt, now)
        return true
      }),
    del: (keys) => step((now) => keys.filter((key) => find(key, now) !== undefined && entries.delete(key)).length),
    exists: (key) => step((now) => find(key, now) !== undefined),
    expire: (key, millis) =>
      step((now) => {
        const entry = find(key, now)
        if (entry !== undefined) entries.set(key, { value: entry.value, expiresAt: now + millis })
        return entry !== undefined
      }),
    persist: (key) =>
      step((now) => {
        const entry = find(key, now)
        if (entry === undefined || entry.expiresAt === Infinity) return false
        entries.set(key, { value: entry.value, expiresAt: Infinity })
        return true
      }),
    ttl: (key) =>
      step((now) => {
        const entry = find(key, now)
        if (entry === undefined) return -2
        return entry.expiresAt === Infinity ? -1 : entry.expiresAt - now
      }),
    incrBy: (key, by) =>
      risky("incrby", (now) => {
        const value = text(key, now)
        if (value instanceof Refusal) return value
        const sum = add(value ?? "0", by)
        if (sum instanceof Refusal) return sum
        store(key, String(sum), entries.get(key)?.expiresAt ?? Infinity, now)
        return Number(sum)
      }),
    hashGet: (key, field) =>
      risky("hget", (now) => {
        const fields = hash(key, now)
        return fields instanceof Refusal ? fields : fields?.get(field) ?? null
      }),
    hashGetAll: (key) =>
      risky("hgetall", (now) => {
        const fields = hash(key, now)
        return fields instanceof Refusal ? fields : Object.fromEntries(fields ?? [])
      }),
    hashSet: (key, added) =>
      risky("hset", (now) => {
        const fields = hash(key, now) ?? new Map<string, string>()
        if (fields instanceof Refusal) return fields
        const before = fields.size
        for (const [field, value] of added) fields.set(field, value)
        store(key, fields, entries.get(key)?.expiresAt ?? Infinity, now)
        return fields.size - before
      }),
    hashDel: (key, removed) =>
      risky("hdel", (now) => {
        const fields = hash(key, now)
        if (fields === undefined || fields instanceof Refusal) return fields ?? 0
        const count = removed.filter((field) => fields.delete(field)).length
        if (fields.size === 0) entries.delete(key)
        return count
      }),
    hashIncrBy: (key, field, by) =>
      risky("hincrby", (now) => {
        const fields = hash(key, now) ?? new Map<string, string>()
        if (fields instanceof Refusal) return fields
        const sum = add(fields.get(field) ?? "0", by)
        if (sum instanceof Refusal) return sum
        fields.set(field, String(sum))
        store(key, fields, entries.get(key)?.expiresAt ?? Infinity, now)
        return Number(sum)
      }),
    scan: (_cursor, pattern) =>
      step((now) => {
        const matches = parseGlob(pattern)
        return ["0", [...entries.keys()].filter((key) => matches(key) && find(key, now) !== undefined)]
      })
  }
}

/** What the server would answer with an error. */
class Refusal {
  readonly reason: RedisErrorReason
  readonly detail: string
  constructor(reason: RedisErrorReason, detail: string) {
    this.reason = reason
    this.detail = detail
  }
}

const wrongType = new Refusal("wrong-type", "WRONGTYPE Operation against a key holding the wrong kind of value")
const notInteger = new Refusal("reply", "ERR value is not an integer or out of range")
const overflow = new Refusal("reply", "ERR increment or decrement would overflow")

const isInt64 = (number: bigint): boolean => BigInt.asIntN(64, number) === number

/** Counters are signed integers of 64 bits, spelled as the server spells them. */
const add = (text: string, by: number): bigint | Refusal => {
  if (!/^(0|-?[1-9]\d{0,18})$/.test(text) || !isInt64(BigInt(text))) return notInteger
  const sum = BigInt(text) + BigInt(by)
  return isInt64(sum) ? sum : overflow
}
