/** Connection settings as ioredis wants them. */
import { type Duration, Effect, Redacted, Result } from "effect"
import type { ClusterNode, ClusterOptions, RedisOptions } from "ioredis"
import { RedisError } from "../RedisError.ts"
import type {
  Address as Host,
  Credentials,
  NatMap,
  RedisSettings,
  SentinelSettings,
  TlsSettings
} from "../RedisSettings.ts"
import { finiteMillis } from "./duration.ts"
import { checkName } from "./keys.ts"
import { type Place, placeOfName, translated } from "./place.ts"
import { fromUrl } from "./redisUrl.ts"

/** ioredis' options, except the reply mapping, which the decoders rely on. */
export type Address = Omit<RedisOptions, "replyMapping">

/** ioredis' options of a Cluster, except the reply mapping. */
export type PlainClusterOptions = Omit<ClusterOptions, "redisOptions"> & {
  readonly redisOptions?: Omit<NonNullable<ClusterOptions["redisOptions"]>, "replyMapping">
}

// How soon TCP asks whether a silent peer is there.
const keepAliveMillis = 5000

// ioredis keeps a timer for so long after a client was closed, even when its socket is gone.
const disconnectTimeoutMillis = 200

/** What ioredis must not do by itself: run a command twice, or hold one back until it suits. */
export const honest = {
  lazyConnect: true,
  enableOfflineQueue: false,
  maxRetriesPerRequest: 0,
  autoResendUnfulfilledCommands: false,
  autoResubscribe: false,
  // `connect` does that, and finds out before where to and as whom.
  retryStrategy: null,
  enableReadyCheck: false,
  disableClientInfo: true,
  protocol: 2,
  disconnectTimeout: disconnectTimeoutMillis
} satisfies Address

/** What ioredis does by default, but for what `close` needs. */
export const ordinary = { lazyConnect: true, disconnectTimeout: disconnectTimeoutMillis } satisfies Address

/** Settings whose URL has been read into its parts, and whose numbers make sense. */
export const resolve = (settings: RedisSettings): Effect.Effect<RedisSettings, RedisError> => {
  const { url, ...rest } = settings
  const parsed = url === undefined ? Result.succeed<RedisSettings>({}) : fromUrl(url)
  if (Result.isFailure(parsed)) return malformed(`the URL is malformed: expected ${parsed.failure}`)
  const overrides = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== undefined))
  // Never downgraded: the scheme's TLS stays when `tls` is false.
  const tls = typeof rest.tls === "object" ? rest.tls : rest.tls === true || parsed.success.tls === true
  const { sentinel } = parsed.success
  const resolved: RedisSettings = {
    ...parsed.success,
    // The scheme is that of the hosts beside it: the Sentinels.
    ...(sentinel === undefined || parsed.success.tls !== true ? {} : { sentinel: { ...sentinel, tls } }),
    ...overrides,
    tls
  }
  const problem = problemOf(resolved)
  return problem === undefined ? Effect.succeed(resolved) : malformed(problem)
}

const malformed = (detail: string) =>
  Effect.fail(new RedisError({ command: "connect", reason: "connection", outcome: "NotSent", detail }))

const problemOf = (settings: RedisSettings): string | undefined => {
  const { cluster, commandTimeout, connectTimeout, credentials, db, maxReserved, namespace, port, sentinel } = settings
  if (!isTimeout(connectTimeout)) return "connectTimeout must be from 1 millisecond to 24 days"
  if (!isTimeout(commandTimeout)) return "commandTimeout must be from 1 millisecond to 24 days"
  // An empty one would be taken for the one that is the default.
  if (settings.host === "" || settings.path === "") return "host and path must not be empty"
  if (!isWhole(port, 1, 65_535)) return "port must be from 1 to 65535"
  if (!isWhole(db, 0, 1_000_000)) return "db must be the number of a database, from 0"
  if (!isWhole(maxReserved, 0, 10_000)) return "maxReserved must be from 0 to 10000"
  if (namespace !== undefined && Result.isFailure(checkName("namespace", namespace))) {
    return "the namespace must be a well-formed text of 1 to 512 bytes"
  }
  if (credentials !== undefined && (settings.username !== undefined || settings.password !== undefined)) {
    return "credentials come from a provider or from username and password, not from both"
  }
  if (isHalf(settings.tls) || isHalf(sentinel?.tls)) return "tls takes a certificate together with its key, or neither"
  if (cluster !== undefined && sentinel !== undefined) return "either a Cluster or Sentinels, not both"
  if (cluster !== undefined && (db ?? 0) !== 0) return "a Cluster has only database 0"
  if (sentinel?.name === "") return "the Sentinels' name of the master must not be empty"
  const several = cluster ?? sentinel
  if (several === undefined) return undefined
  if (settings.path !== undefined) return "a socket leads to one server, not to a Cluster or to Sentinels"
  if (several.nodes.length === 0) return "at least one node must be named"
  const { natMap = {} } = several
  if (![...several.nodes, ...Object.values(natMap)].every(isHost)) {
    return "each node must have a host, and a port from 1 to 65535"
  }
  return Object.keys(natMap).every((inside) => isHost(placeOfName(inside)))
    ? undefined
    : "natMap must lead from addresses like 10.0.0.7:6379"
}

/** Whoever shows a certificate has to prove that it is theirs. */
const isHalf = (tls: RedisSettings["tls"]): boolean =>
  typeof tls === "object" && (tls.cert === undefined) !== (tls.key === undefined)

const isHost = ({ host, port }: Host): boolean => host !== "" && isWhole(port, 1, 65_535)

const isTimeout = (timeout: Duration.Input | undefined): boolean => {
  if (timeout === undefined) return true
  const millis = finiteMillis(timeout)
  return millis !== undefined && millis >= 1 && millis < 2 ** 31
}

const isWhole = (value: number | undefined, from: number, to: number): boolean =>
  value === undefined || (Number.isInteger(value) && value >= from && value <= to)

/** Where the server is, and how to be let in. `place` is where it is when the settings do not say so. */
export const addressOf = (settings: RedisSettings, connectTimeout: number, place?: Place): Address => {
  const options: Address = {
    db: settings.db ?? 0,
    connectTimeout,
    keepAlive: keepAliveMillis,
    ...credentialsOf(settings)
  }
  if (settings.path === undefined || place !== undefined) {
    options.host = place?.host ?? settings.host ?? "127.0.0.1"
    options.port = place?.port ?? settings.port ?? 6379
  } else options.path = settings.path
  return { ...options, ...tlsOf(settings.tls, options.host) }
}

/** How to reach a Sentinel. */
export const sentinelAddress = (
  settings: SentinelSettings,
  connectTimeout: number,
  { host, port }: Place
): Address => ({
  host,
  port,
  connectTimeout,
  keepAlive: keepAliveMillis,
  ...credentialsOf(settings),
  ...tlsOf(settings.tls, host)
})

/** How ioredis itself finds the master, for clients that are left alone. */
export const ordinarySentinels = ({ sentinel, tls }: RedisSettings, connectTimeout: number): Address => {
  if (sentinel === undefined) return {}
  const own = sentinelAddress(sentinel, connectTimeout, { host: "", port: 0 })
  return {
    name: sentinel.name,
    sentinels: sentinel.nodes.map(({ host, port = 26_379 }) => ({ host, port })),
    // They are asked one after the other, and a silent one for ever.
    sentinelCommandTimeout: Math.ceil(connectTimeout / (sentinel.nodes.length + 1)),
    ...(own.username === undefined ? {} : { sentinelUsername: own.username }),
    ...(own.password === undefined ? {} : { sentinelPassword: own.password }),
    ...(own.tls === undefined ? {} : { sentinelTLS: own.tls }),
    ...(sentinel.natMap === undefined ? {} : { natMap: natMapOf(sentinel.natMap) }),
    enableTLSForSentinelMode: tls !== false && tls !== undefined
  }
}

/** What makes an ordinary Cluster client of ioredis, whose nodes are reached like `address`. */
export const clusterOptions = (
  { cluster }: RedisSettings,
  address: Address,
  options: PlainClusterOptions | undefined
): [Array<ClusterNode>, PlainClusterOptions] => {
  const redisOptions = { ...address }
  for (const ofOneServer of ["db", "host", "port", "path"] as const) delete redisOptions[ofOneServer]
  return [
    (cluster?.nodes ?? []).map(({ host, port = 6379 }) => ({ host, port })),
    {
      ...(cluster?.natMap === undefined ? {} : { natMap: natMapOf(cluster.natMap) }),
      // Certificates bear names, which a look-up would take away.
      ...(redisOptions.tls === undefined ? {} : { dnsLookup: (address, callback) => callback(null, address) }),
      ...options,
      redisOptions: { ...redisOptions, ...options?.redisOptions },
      lazyConnect: true
    }
  ]
}

const natMapOf = (natMap: NatMap) =>
  Object.fromEntries(Object.keys(natMap).map((inside) => [inside, translated(placeOfName(inside), natMap)]))

const credentialsOf = ({ password, username }: Credentials): Address => ({
  ...(username === undefined ? {} : { username }),
  ...(password === undefined ? {} : { password: Redacted.value(password) })
})

const tlsOf = (settings: boolean | TlsSettings | undefined, host: string | undefined): Address => {
  if (settings === undefined || settings === false) return {}
  const tls = settings === true ? {} : settings
  const servername = tls.servername ?? (isAddress(host) ? undefined : host)
  return {
    tls: {
      rejectUnauthorized: tls.verify !== false,
      ...(tls.ca === undefined ? {} : { ca: tls.ca }),
      ...(tls.cert === undefined ? {} : { cert: tls.cert }),
      ...(tls.key === undefined ? {} : { key: Redacted.value(tls.key) }),
      ...(servername === undefined ? {} : { servername })
    }
  }
}

// Server names are names: TLS forbids addresses there.
const isAddress = (host: string | undefined) => host === undefined || /^[\d.]+$|:/.test(host)

/** How a server is called that the settings name. */
export const describePlace = ({ host = "127.0.0.1", path, port = 6379, sentinel }: RedisSettings): string =>
  sentinel === undefined ? path ?? `${host}:${port}` : sentinel.name
