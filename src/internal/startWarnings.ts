/** What operators should know of a server before it bites: logged once for each connection. */
import { Effect, type Scope, Stream } from "effect"
import type { RedisClient } from "../RedisClient.ts"
import { parseInfo, type ServerInfo } from "./serverInfo.ts"

/** What a service cannot do without. `jobs`: that what is stored outlives the server's process. */
export type Need = "locks" | "jobs"

const oldest = { redis: [6, 2], valkey: [7, 2] } as const

const warned = new WeakMap<object, Set<string>>()

/** Asks the servers in the background, as soon as they are there, and logs what is wrong with them for `need`. */
export const warnAtStart = (client: RedisClient["Service"], need: Need): Effect.Effect<void, never, Scope.Scope> =>
  Effect.gen(function*() {
    const said = warned.get(client) ?? new Set()
    warned.set(client, said)
    yield* Stream.runDrain(Stream.take(Stream.filter(client.states, ({ _tag }) => _tag === "Ready"), 1))
    for (const { use } of yield* client.servers) {
      const info = yield* use("info", (redis) => redis.info(), { repeatable: true })
      for (const warning of warningsOf(parseInfo(info), need, client.topology === "cluster")) {
        if (said.has(warning)) continue
        said.add(warning)
        yield* Effect.logWarning(warning)
      }
    }
  }).pipe(
    // Who may not ask is not told; and a server that cannot be reached is told of elsewhere.
    Effect.ignore,
    Effect.forkScoped,
    Effect.asVoid
  )

/** What is wrong with a server that tells `info`, and `isNode` if it is known to be a Cluster's. */
export const warningsOf = (info: ServerInfo, need: Need, isNode = false): ReadonlyArray<string> => {
  const warnings: Array<string> = []
  const kind = info["valkey_version"] === undefined ? "redis" : "valkey"
  const version = info["valkey_version"] ?? info["redis_version"] ?? ""
  const [major = 0, minor = 0] = version.split(".").map(Number)
  const [needsMajor, needsMinor] = oldest[kind]
  if (version !== "" && (major < needsMajor || (major === needsMajor && minor < needsMinor))) {
    warnings.push(`The server is ${kind} ${version}: effect-redis-kit needs ${needsMajor}.${needsMinor} or later`)
  }
  if (info["redis_mode"] === "cluster" && !isNode) {
    warnings.push(
      "The server is one of a Cluster's, and calls for keys of the others will fail: name it so, with ?cluster=true in " +
        "REDIS_URL or with REDIS_CLUSTER_NODES"
    )
  }
  const policy = info["maxmemory_policy"]
  if (Number(info["maxmemory"] ?? 0) > 0 && policy !== undefined && policy !== "noeviction") {
    const what = policy.startsWith("volatile") ? "locks, and whatever else expires" : "any key, jobs and locks too"
    warnings.push(`The server may evict ${what} (maxmemory-policy ${policy}): set noeviction`)
  }
  if (need === "jobs" && info["aof_enabled"] === "0") {
    warnings.push(
      "The server's append-only file is off: when it dies, jobs since its last snapshot, if it makes any, are lost " +
        "(set appendonly yes; docs/queue.md tells what each setting keeps)"
    )
  }
  return warnings
}
