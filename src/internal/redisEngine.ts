/** The everyday commands as an engine runs them, and the engine that sends them to a server. */
import { Effect, Result } from "effect"
import type { RedisClient } from "../RedisClient.ts"
import { RedisError } from "../RedisError.ts"
import { scanCluster } from "./clusterScan.ts"
import { bySlot } from "./hashSlot.ts"

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

/** Sends each command over the client's shared connection, in a Cluster to the server that has the key. */
export const clientEngine = (client: RedisClient["Service"]): RedisEngine => {
  const { use } = client
  const isCluster = client.topology === "cluster"
  // On one server they are the same for all keys.
  const reading = isCluster ? (key: string) => ({ key, repeatable: true, fromReplica: true }) : () => repeatable
  const writing = isCluster ? (key: string) => ({ key }) : () => undefined

  /** Runs a command on many keys for each slot's; replies come back in the order of `keys`. */
  const perSlot = <A>(
    keys: ReadonlyArray<string>,
    run: (keys: ReadonlyArray<string>) => Run<A>,
    join: (replies: ReadonlyArray<A>, places: ReadonlyArray<ReadonlyArray<number>>) => A
  ): Run<A> => {
    const groups = isCluster ? bySlot(keys) : []
    if (groups.length < 2) return run(keys)
    return Effect.flatMap(
      Effect.forEach(groups, (places) => Effect.result(run(places.map((place) => keys[place]!))), {
        concurrency: "unbounded"
      }),
      (results) => {
        const replies = Result.all(results)
        return Result.isSuccess(replies)
          ? Effect.succeed(join(replies.success, groups))
          : Effect.fail(inPart(replies.failure, results))
      }
    )
  }

  return {
    get: (key) => use("get", (redis) => redis.get(key), reading(key)),
    getDel: (key) => use("getdel", (redis) => redis.getdel(key), writing(key)),
    getMany: (keys) =>
      perSlot(
        keys,
        (some) => use("mget", (redis) => redis.mget(...some), reading(some[0]!)),
        (replies, places) => {
          const values = Array.from<string | null>({ length: keys.length })
          replies.forEach((reply, group) => reply.forEach((value, i) => values[places[group]![i]!] = value))
          return values
        }
      ),
    set: (key, value, how) =>
      Effect.map(
        use(
          "set",
          (redis) => how === undefined ? redis.set(key, value) : redis.call("SET", key, value, ...setArguments(how)),
          writing(key)
        ),
        (reply) => reply !== null
      ),
    // Frees the memory of a big value in the background.
    del: (keys) =>
      perSlot(
        keys,
        (some) => use("unlink", (redis) => redis.unlink(...some), writing(some[0]!)),
        (counts) => counts.reduce((sum, count) => sum + count, 0)
      ),
    exists: (key) => Effect.map(use("exists", (redis) => redis.exists(key), reading(key)), (count) => count > 0),
    expire: (key, millis) =>
      Effect.map(use("pexpire", (redis) => redis.pexpire(key, millis), writing(key)), (count) => count > 0),
    persist: (key) => Effect.map(use("persist", (redis) => redis.persist(key), writing(key)), (count) => count > 0),
    ttl: (key) => use("pttl", (redis) => redis.pttl(key), reading(key)),
    incrBy: (key, by) => use("incrby", (redis) => redis.incrby(key, by), writing(key)),
    hashGet: (key, field) => use("hget", (redis) => redis.hget(key, field), reading(key)),
    hashGetAll: (key) => use("hgetall", (redis) => redis.hgetall(key), reading(key)),
    hashSet: (key, fields) => use("hset", (redis) => redis.hset(key, ...fields.flat()), writing(key)),
    hashDel: (key, fields) => use("hdel", (redis) => redis.hdel(key, ...fields), writing(key)),
    hashIncrBy: (key, field, by) => use("hincrby", (redis) => redis.hincrby(key, field, by), writing(key)),
    scan: isCluster
      ? scanCluster(client)
      : (cursor, pattern, count) =>
        use("scan", (redis) => redis.scan(cursor, "MATCH", pattern, "COUNT", count), repeatable)
  }
}

/** What was not done for one slot may have been done for others. */
const inPart = (
  error: RedisError,
  results: ReadonlyArray<Result.Result<unknown, RedisError>>
): RedisError =>
  results.every((result) => Result.isFailure(result) && result.failure.outcome === error.outcome)
    ? error
    : new RedisError({ command: error.command, reason: error.reason, outcome: "Unknown", detail: error.detail })

const setArguments = ({ keepTtl, onlyIf, ttlMillis }: SetHow): ReadonlyArray<string> => [
  ...(ttlMillis === undefined ? [] : ["PX", String(ttlMillis)]),
  ...(keepTtl ? ["KEEPTTL"] : []),
  ...(onlyIf === undefined ? [] : [onlyIf === "absent" ? "NX" : "XX"])
]
