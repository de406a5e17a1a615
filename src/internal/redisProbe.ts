/** What a connection and its server tell of themselves, and what is wrong with it. */
import { type Duration, Effect, Option, type Scope, Stream } from "effect"
import type { ConnectionState, RedisClient } from "../RedisClient.ts"
import type { RedisError, RedisErrorReason } from "../RedisError.ts"
import { isReply, toRedisError } from "./failure.ts"
import { oneFlight } from "./flight.ts"
import type { HealthStatus } from "./probes.ts"
import { parseInfo, type ServerInfo } from "./serverInfo.ts"

/** What is known of Redis. A field is missing when the server did not tell, or may not. */
export type RedisDetails = {
  /** `memory` when the services keep their data in this process. */
  readonly engine: "redis" | "memory"
  /** The connection for commands. Subscriptions have a component of their own. */
  readonly connection?: "connecting" | "ready" | "disconnected" | "closed" | undefined
  /** How often the connection was replaced since the start. */
  readonly reconnects?: number | undefined
  /** From PING to its reply, on the connection that the commands use. */
  readonly latencyMillis?: number | undefined
  /** Whether INFO was answered, is forbidden by the server, or got no answer in time. */
  readonly info?: "answered" | "forbidden" | "unanswered" | undefined
  readonly server?: "redis" | "valkey" | undefined
  readonly version?: string | undefined
  readonly uptimeSeconds?: number | undefined
  readonly role?: "master" | "replica" | undefined
  /** A replica's link to its master. */
  readonly masterLink?: "up" | "down" | undefined
  /** How many replicas a master has. */
  readonly replicas?: number | undefined
  readonly usedMemoryBytes?: number | undefined
  /** 0 is no limit. */
  readonly maxMemoryBytes?: number | undefined
  readonly evictionPolicy?: string | undefined
  readonly loading?: boolean | undefined
  readonly appendOnlyFile?: boolean | undefined
  /** Whether the last background save and the last write to the append-only file went well. */
  readonly persistence?: "ok" | "failing" | undefined
  readonly connectedClients?: number | undefined
  readonly maxClients?: number | undefined
  /** In a Cluster, each master's own; what stands beside is of all of them. */
  readonly masters?: ReadonlyArray<RedisDetails> | undefined
}

/** How the connection for commands and its server are doing. */
export interface RedisFindings {
  readonly status: HealthStatus
  readonly reasons: ReadonlyArray<string>
  readonly details: RedisDetails
}

/** What counts as wrong. */
export interface RedisLimits {
  /** The part of `maxmemory` and of `maxclients`, from 0 to 1, from which on there is too little left. */
  readonly fill: number
  /** Whether the server is meant to evict keys, as a cache's is. */
  readonly eviction: boolean
}

/** A server, and how it is asked. */
export interface Asked {
  readonly use: RedisClient["Service"]["use"]
  readonly info: Effect.Effect<ServerInfo, RedisError>
  readonly states: RedisClient["Service"]["states"]
  /** Whether it is known to be one of a Cluster's. */
  readonly isNode?: boolean | undefined
}

/** Asks the server over the connection in use. Whoever asks waits no longer than `deadline`. */
export const makeRedisProbe = (
  client: RedisClient["Service"],
  deadline: Duration.Duration,
  late: string,
  limits: RedisLimits
) => makeServerProbe({ use: client.use, info: infoOf(client), states: client.states }, deadline, late, limits)

/** `makeRedisProbe`, of one of several servers. */
export const makeServerProbe = (
  client: Asked,
  deadline: Duration.Duration,
  late: string,
  limits: RedisLimits
): Effect.Effect<Effect.Effect<RedisFindings>, never, Scope.Scope> =>
  // A question that is late is not repeated but waited for: one is on its way at most, and it lives until the
  // connection's own deadline, which finds out that a connection is dead and replaces it.
  Effect.map(Effect.all([oneFlight(pingOnce(client), 0), oneFlight(client.info, 0)]), ([ping, info]) =>
    Effect.scoped(Effect.gen(function*() {
      const seen: Seen = { state: undefined, error: undefined }
      const watch = Stream.runForEach(client.states, (state) =>
        Effect.sync(() => note(seen, state)))
      yield* Effect.forkScoped(watch, { startImmediately: true })
      const [pong, told] = yield* Effect.all([
        Effect.timeoutOption(Effect.result(ping), deadline),
        Effect.timeoutOption(Effect.result(info), deadline)
      ], { concurrency: "unbounded" })

      const known = Option.isSome(told) && told.value._tag === "Success" ? told.value.success : undefined
      const forbidden = Option.isSome(told) && told.value._tag === "Failure" &&
        told.value.failure.outcome === "Rejected"
      const details: RedisDetails = {
        engine: "redis",
        connection: stateNames[seen.state?._tag ?? "Connecting"],
        reconnects: Math.max((seen.state?.epoch ?? 0) - 1, 0),
        ...(Option.isSome(pong) && pong.value._tag === "Success" ? { latencyMillis: pong.value.success } : {}),
        info: known !== undefined ? "answered" : forbidden ? "forbidden" : "unanswered",
        ...(known === undefined ? {} : detailsOf(known))
      }
      const concerns = known === undefined
        ? []
        : [...modeConcerns(known, client.isNode === true), ...concernsOf(details, known, limits)]

      if (details.loading === true) return unhealthy("it is loading its data", concerns, details)
      if (Option.isNone(pong)) return unhealthy(whySilent(seen, late), concerns, details)
      if (pong.value._tag === "Failure") return unhealthy(describeError(pong.value.failure), concerns, details)
      return { status: concerns.length === 0 ? "healthy" : "degraded", reasons: concerns, details }
    })))

const unhealthy = (reason: string, concerns: ReadonlyArray<string>, details: RedisDetails): RedisFindings => ({
  status: "unhealthy",
  reasons: [reason, ...concerns],
  details
})

/** What happened to the connection while we waited. */
interface Seen {
  state: ConnectionState | undefined
  error: RedisError | undefined
}

const note = (seen: Seen, state: ConnectionState): void => {
  seen.state = state
  if (state._tag === "Disconnected") seen.error = state.error ?? seen.error
  if (state._tag === "Ready") seen.error = undefined
}

const stateNames = {
  Connecting: "connecting",
  Ready: "ready",
  Disconnected: "disconnected",
  Closed: "closed"
} as const

/** What to say when nothing was answered in time. */
export const whySilent = ({ error, state }: Seen, late: string): string =>
  error !== undefined ? describeError(error) : state?._tag === "Ready" ? late : `there is no connection (${late})`

const failures: Partial<Record<RedisErrorReason, string>> = {
  connection: "there is no connection",
  authentication: "it does not accept the user or the password",
  timeout: "it does not answer",
  loading: "it is loading its data",
  script: "a script keeps it busy",
  "no-permission": "the user may not do what this check needs"
}

/** Why a check failed, without the address that an error's own words may hold. */
export const describeError = ({ detail, reason }: RedisError): string => {
  const code = reason === "connection" ? /\bE[A-Z]{4,}\b/.exec(detail)?.[0] : undefined
  return `${failures[reason] ?? `it refuses commands (${reason})`}${code === undefined ? "" : ` (${code})`}`
}

const pingOnce = (client: Asked): Effect.Effect<number, RedisError> => {
  // When it was sent last: waiting for a connection, and sending again on the next one, are no latency.
  let sentAt = 0
  // The network's time, whatever clock the program runs on.
  const elapsed = Effect.sync(() => Math.round((performance.now() - sentAt) * 100) / 100)
  return client.use("ping", (redis) => {
    sentAt = performance.now()
    return redis.ping()
  }, { repeatable: true }).pipe(
    // A refusal is an answer: the server is there.
    Effect.catchIf((error) => error.reason === "no-permission", () => Effect.void),
    Effect.andThen(elapsed)
  )
}

// A server that is loading its data answers INFO, but the connection does not count as ready then: so the raw client.
const infoOf = (client: RedisClient["Service"]): Effect.Effect<ServerInfo, RedisError> =>
  Effect.tryPromise({
    try: () => client.raw.info(),
    catch: (cause) => ({ answered: isReply(cause), error: toRedisError("info", cause, true) })
  }).pipe(
    Effect.map(parseInfo),
    Effect.catch(({ answered, error }) => answered ? Effect.fail(error) : client.info())
  )

const detailsOf = (info: ServerInfo): Partial<RedisDetails> => {
  const number = (field: string) => /^\d{1,15}$/.test(info[field] ?? "") ? Number(info[field]) : undefined
  const flag = (field: string) => info[field] === undefined ? undefined : info[field] === "1"
  const role = info["role"] === "slave" ? "replica" : info["role"] === "master" ? "master" : undefined
  return {
    server: info["valkey_version"] !== undefined ? "valkey" : info["redis_version"] !== undefined ? "redis" : undefined,
    version: info["valkey_version"] ?? info["redis_version"],
    uptimeSeconds: number("uptime_in_seconds"),
    role,
    masterLink: role === "replica" ? info["master_link_status"] === "up" ? "up" : "down" : undefined,
    replicas: role === "master" ? number("connected_slaves") : undefined,
    usedMemoryBytes: number("used_memory"),
    maxMemoryBytes: number("maxmemory"),
    evictionPolicy: info["maxmemory_policy"],
    loading: flag("loading"),
    appendOnlyFile: flag("aof_enabled"),
    persistence: info["loading"] === undefined ? undefined : persistenceConcerns(info).length === 0 ? "ok" : "failing",
    connectedClients: number("connected_clients"),
    maxClients: number("maxclients")
  }
}

/** What the server can live with, but its operator should know. */
const concernsOf = (details: RedisDetails, info: ServerInfo, limits: RedisLimits): ReadonlyArray<string> => {
  const concerns: Array<string> = []
  if (details.role === "replica") concerns.push("it is a replica, which takes no writes")
  if (details.masterLink === "down") concerns.push("its link to its master is down")

  const { connectedClients, evictionPolicy, maxClients, maxMemoryBytes, usedMemoryBytes } = details
  const limited = maxMemoryBytes !== undefined && maxMemoryBytes > 0
  if (limited && !limits.eviction && evictionPolicy !== undefined && evictionPolicy !== "noeviction") {
    concerns.push(
      `maxmemory-policy ${evictionPolicy} lets it evict ${
        evictionPolicy.startsWith("volatile") ? "keys that expire, like locks" : "any key, jobs and locks too"
      }: set noeviction`
    )
  }
  // A cache is always full: that is what eviction is for.
  if (limited && !limits.eviction && usedMemoryBytes !== undefined && usedMemoryBytes >= maxMemoryBytes * limits.fill) {
    concerns.push(`${percent(usedMemoryBytes, maxMemoryBytes)} of maxmemory is used`)
  }
  if (maxClients !== undefined && connectedClients !== undefined && connectedClients >= maxClients * limits.fill) {
    concerns.push(`${percent(connectedClients, maxClients)} of maxclients is used`)
  }
  return [...concerns, ...persistenceConcerns(info)]
}

/** A server that is another kind than the settings say serves some commands or keys, and not others. */
const modeConcerns = (info: ServerInfo, isNode: boolean): ReadonlyArray<string> => {
  const mode = info["redis_mode"]
  if (mode === "sentinel") return ["it is a Sentinel, which keeps no keys: name it as one"]
  return mode === "cluster" && !isNode
    ? ["it is one of a Cluster's, which has other keys elsewhere: name it as one"]
    : []
}

const persistenceConcerns = (info: ServerInfo): ReadonlyArray<string> => [
  ...(info["rdb_last_bgsave_status"] === "err" ? ["its last background save failed"] : []),
  ...(info["aof_last_write_status"] === "err" ? ["it cannot write its append-only file"] : []),
  ...(info["aof_last_bgrewrite_status"] === "err" ? ["it could not rewrite its append-only file"] : [])
]

const percent = (part: number, whole: number): string => `${Math.floor(part / whole * 100)} %`
