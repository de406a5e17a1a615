/** The everyday commands as an engine runs them, and the engine that sends them to a server. */
import { Effect } from "effect"
import type { RedisClient } from "../RedisClient.ts"
import type { RedisError } from "../RedisError.ts"

/** How SET differs from storing a value for ever. */
export interface SetHow {
  readonly ttlMillis: number | undefined
  readonly keepTtl: boolean
  readonly onlyIf: "absent" | "present" | undefined
}

type Run<A> = Effect.Effect<A, RedisError>

/** Each is one atomic step on whole keys, with arguments that are known to be good. */
export interface RedisEngine {
  readonly get: (key: string) => Run<string | null>
  readonly getDel: (key: string) => Run<string | null>
  readonly getMany: (keys: ReadonlyArray<string>) => Run<ReadonlyArray<string | null>>
  /** Whether it was set. `how` is left out when it is as plain as can be. */
  readonly set: (key: string, value: string, how?: SetHow) => Run<boolean>
  readonly del: (keys: ReadonlyArray<string>) => Run<number>
  readonly exists: (key: string) => Run<boolean>
  readonly expire: (key: string, millis: number) => Run<boolean>
  readonly persist: (key: string) => Run<boolean>
  /** Milliseconds; -1 when it does not expire, -2 when there is no such key. */
  readonly ttl: (key: string) => Run<number>
  readonly incrBy: (key: string, by: number) => Run<number>
  readonly hashGet: (key: string, field: string) => Run<string | null>
  readonly hashGetAll: (key: string) => Run<Readonly<Record<string, string>>>
  /** How many fields are new. */
  readonly hashSet: (key: string, fields: ReadonlyArray<readonly [field: string, value: string]>) => Run<number>
  readonly hashDel: (key: string, fields: ReadonlyArray<string>) => Run<number>
  readonly hashIncrBy: (key: string, field: string, by: number) => Run<number>
  /** Some of the keys that match, and where to go on; `0` begins and ends. */
  readonly scan: (cursor: string, pattern: string, count: number) => Run<readonly [string, ReadonlyArray<string>]>
}

const repeatable = { repeatable: true } as const

/** Sends each command over the client's shared connection. */
export const clientEngine = ({ use }: RedisClient["Service"]): RedisEngine => ({
  get: (key) => use("get", (client) => client.get(key), repeatable),
  getDel: (key) => use("getdel", (client) => client.getdel(key)),
  getMany: (keys) => use("mget", (client) => client.mget(...keys), repeatable),
  set: (key, value, how) =>
    Effect.map(
      use(
        "set",
        (client) => how === undefined ? client.set(key, value) : client.call("SET", key, value, ...setArguments(how))
      ),
      (reply) => reply !== null
    ),
  // Frees the memory of a big value in the background.
  del: (keys) => use("unlink", (client) => client.unlink(...keys)),
  exists: (key) => Effect.map(use("exists", (client) => client.exists(key), repeatable), (count) => count > 0),
  expire: (key, millis) => Effect.map(use("pexpire", (client) => client.pexpire(key, millis)), (count) => count > 0),
  persist: (key) => Effect.map(use("persist", (client) => client.persist(key)), (count) => count > 0),
  ttl: (key) => use("pttl", (client) => client.pttl(key), repeatable),
  incrBy: (key, by) => use("incrby", (client) => client.incrby(key, by)),
  hashGet: (key, field) => use("hget", (client) => client.hget(key, field), repeatable),
  hashGetAll: (key) => use("hgetall", (client) => client.hgetall(key), repeatable),
  hashSet: (key, fields) => use("hset", (client) => client.hset(key, ...fields.flat())),
  hashDel: (key, fields) => use("hdel", (client) => client.hdel(key, ...fields)),
  hashIncrBy: (key, field, by) => use("hincrby", (client) => client.hincrby(key, field, by)),
  scan: (cursor, pattern, count) =>
    use("scan", (client) => client.scan(cursor, "MATCH", pattern, "COUNT", count), repeatable)
})

const setArguments = ({ keepTtl, onlyIf, ttlMillis }: SetHow): ReadonlyArray<string> => [
  ...(ttlMillis === undefined ? [] : ["PX", String(ttlMillis)]),
  ...(keepTtl ? ["KEEPTTL"] : []),
  ...(onlyIf === undefined ? [] : [onlyIf === "absent" ? "NX" : "XX"])
]
