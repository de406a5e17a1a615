/** Connection settings, and how they are read from the environment. */
import { Config, Effect, Redacted, Result } from "effect"
import { readFileSync } from "node:fs"
import { flag, fromUrl, parseAddresses, parseNatMap, wholeNumber } from "./internal/redisUrl.ts"
import { malformed, optional, parsed, refused } from "./internal/variables.ts"
import type { RedisSettings } from "./RedisSettings.ts"

export { fromUrl } from "./internal/redisUrl.ts"
export type {
  Address,
  ClusterSettings,
  Credentials,
  NatMap,
  RedisSettings,
  SentinelSettings,
  TlsSettings
} from "./RedisSettings.ts"

// What Kubernetes sets for a service that is called redis, whoever uses it: tcp://10.0.0.7:6379.
const isServiceLink = (text: string): boolean => text.startsWith("tcp://")

const duration = "a duration above 0, like 5000 or 5s"

const millis = (text: string): number | undefined => {
  const [, amount, unit = "ms"] = /^(\d{1,9}) ?(ms|millis|s|seconds?|m|minutes?)?$/.exec(text) ?? []
  if (amount === undefined || Number(amount) === 0) return undefined
  const factor = unit.startsWith("ms") || unit === "millis" ? 1 : unit.startsWith("s") ? 1000 : 60_000
  const total = Number(amount) * factor
  // Longer than any timer can wait.
  return total < 2 ** 31 ? total : undefined
}

const pem = (name: string) =>
  parsed(name, "a PEM text, or the path of a file that holds one", (text) => {
    if (text.includes("-----BEGIN")) return text.replaceAll("\\n", "\n")
    try {
      const file = readFileSync(text, "utf8")
      return file.includes("-----BEGIN") ? file : undefined
    } catch {
      return undefined
    }
  })

const url = optional("REDIS_URL").pipe(Config.mapEffect((value) => {
  if (value === undefined) return Effect.undefined
  const settings = fromUrl(value)
  return Result.isSuccess(settings)
    ? Effect.succeed(settings.success)
    : malformed("REDIS_URL", settings.failure)
}))

const hosts = "hosts like redis-1:6379, with commas between them"

const cluster = Config.all({
  nodes: parsed("REDIS_CLUSTER_NODES", hosts, parseAddresses),
  readFrom: parsed(
    "REDIS_READ_FROM",
    "master or replica",
    (text) => (text === "master" || text === "replica" ? text : undefined)
  )
})

const sentinel = Config.all({
  nodes: parsed("REDIS_SENTINELS", hosts, parseAddresses),
  name: parsed("REDIS_SENTINEL_NAME", "the master's name", (text) => text),
  username: optional("REDIS_SENTINEL_USERNAME"),
  password: optional("REDIS_SENTINEL_PASSWORD"),
  tls: parsed("REDIS_SENTINEL_TLS", "true or false", flag)
})

const tls = Config.all({
  on: parsed("REDIS_TLS", "true or false", flag),
  ca: pem("REDIS_TLS_CA"),
  cert: pem("REDIS_TLS_CERT"),
  key: pem("REDIS_TLS_KEY"),
  servername: parsed("REDIS_TLS_SERVERNAME", "a host name", (text) => (/[\s/@]/.test(text) ? undefined : text)),
  verify: parsed("REDIS_TLS_VERIFY", "true or false", flag)
})

const common = Config.all({
  host: parsed("REDIS_HOST", "a host name or address", (text) => (/[\s/@]/.test(text) ? undefined : text)),
  port: parsed("REDIS_PORT", "a port from 1 to 65535", wholeNumber(1, 65_535), isServiceLink),
  username: optional("REDIS_USERNAME"),
  password: optional("REDIS_PASSWORD"),
  db: parsed("REDIS_DB", "the number of a database, from 0", wholeNumber(0, 1_000_000)),
  connectTimeout: parsed("REDIS_CONNECT_TIMEOUT", duration, millis),
  commandTimeout: parsed("REDIS_COMMAND_TIMEOUT", duration, millis),
  namespace: parsed("SERVICE_NAME", "a name", (text) => (text.isWellFormed() ? text : undefined))
})

const read = Config.all({
  url,
  cluster,
  sentinel,
  natMap: parsed("REDIS_NAT_MAP", "pairs like 10.0.0.7:6379=localhost:7000, with commas between them", parseNatMap),
  tls,
  common
})

type Read = Config.Success<typeof read>

/** Where the Cluster's nodes or the Sentinels are: what the URL says, else what the variables say. */
const placesIn = ({ cluster, sentinel, url }: Read) => ({
  sentinels: url?.sentinel?.nodes ?? (url === undefined ? sentinel.nodes : undefined),
  nodes: url?.cluster?.nodes ?? (url === undefined ? cluster.nodes : undefined)
})

/** What is set and would not be looked at: whoever set it believes something that is not so. */
const unused = (all: Read): string | undefined => {
  const { cluster, common, natMap, sentinel, tls, url } = all
  const { nodes, sentinels } = placesIn(all)
  const isOne = nodes === undefined && sentinels === undefined
  const set = (applies: boolean, variables: Readonly<Record<string, unknown>>, why: string) => {
    const name = applies ? Object.keys(variables).find((name) => variables[name] !== undefined) : undefined
    return name === undefined ? undefined : `${name} is set, and ${why}`
  }
  return set(
    !isOne && url === undefined,
    { REDIS_HOST: common.host },
    "others say that Redis is a Cluster or behind Sentinels: remove it, or them"
  ) ?? set(
    nodes === undefined,
    { REDIS_CLUSTER_NODES: cluster.nodes, REDIS_READ_FROM: cluster.readFrom },
    "Redis is no Cluster here: remove it, or name the nodes (several hosts in REDIS_URL, or REDIS_CLUSTER_NODES alone)"
  ) ?? set(
    nodes !== undefined && (url?.db ?? common.db ?? 0) > 0,
    url?.db === undefined ? { REDIS_DB: common.db } : { "A database in REDIS_URL": url.db },
    "a Cluster has only database 0"
  ) ?? set(
    sentinels === undefined,
    {
      REDIS_SENTINELS: sentinel.nodes,
      REDIS_SENTINEL_NAME: sentinel.name,
      REDIS_SENTINEL_USERNAME: sentinel.username,
      REDIS_SENTINEL_PASSWORD: sentinel.password,
      REDIS_SENTINEL_TLS: sentinel.tls
    },
    "Redis is not behind Sentinels here: remove it, or name them (hosts and ?sentinel= in REDIS_URL, or REDIS_SENTINELS alone)"
  ) ?? set(
    isOne,
    { REDIS_NAT_MAP: natMap },
    "Redis is one server here: only a Cluster and Sentinels name addresses to be translated"
  ) ?? set(
    // Off on purpose may keep its certificates; off by oversight would send passwords in clear.
    tls.on === undefined && url?.tls !== true && !(sentinels !== undefined && sentinel.tls === true),
    { REDIS_TLS_CA: tls.ca, REDIS_TLS_CERT: tls.cert, REDIS_TLS_KEY: tls.key, REDIS_TLS_SERVERNAME: tls.servername },
    "TLS is off: set REDIS_TLS=true, or have the URL begin with rediss://; or REDIS_TLS=false, to keep it for later"
  ) ?? set(
    (tls.cert === undefined) !== (tls.key === undefined),
    { REDIS_TLS_CERT: tls.cert, REDIS_TLS_KEY: tls.key },
    "a certificate and its key go together: set both, or neither"
  )
}

const settingsFrom = (all: Read): RedisSettings => {
  const { cluster, common: { username, ...common }, natMap, sentinel, tls: { key, on, ...rest }, url } = all
  const { nodes, sentinels } = placesIn(all)
  const material = { ...rest, key: key === undefined ? undefined : Redacted.make(key) }
  const settings: RedisSettings = {
    ...common,
    username: username === undefined ? undefined : Redacted.value(username),
    ...definedOnly(url ?? {}),
    tls: on === true || url?.tls === true ? material : false
  }
  if (nodes !== undefined) return { ...settings, cluster: { nodes, readFrom: cluster.readFrom, natMap } }
  if (sentinels === undefined) return settings
  return {
    ...settings,
    sentinel: {
      name: url?.sentinel?.name ?? sentinel.name ?? "",
      nodes: sentinels,
      natMap,
      username: sentinel.username === undefined ? undefined : Redacted.value(sentinel.username),
      password: sentinel.password,
      tls: sentinel.tls === true || (url?.sentinel !== undefined && url.tls === true) ? material : false
    }
  }
}

/**
 * Reads connection settings from `REDIS_URL`, or from `REDIS_HOST`, `REDIS_PORT`, `REDIS_USERNAME`, `REDIS_PASSWORD`,
 * `REDIS_DB`, `REDIS_TLS`; and from `REDIS_TLS_CA`, `REDIS_TLS_CERT`, `REDIS_TLS_KEY`, `REDIS_TLS_SERVERNAME`,
 * `REDIS_TLS_VERIFY`, `REDIS_CONNECT_TIMEOUT`, `REDIS_COMMAND_TIMEOUT` and `SERVICE_NAME` (the namespace).
 *
 * A Cluster's nodes stand in `REDIS_URL` or in `REDIS_CLUSTER_NODES` (and `REDIS_READ_FROM`); Sentinels in `REDIS_URL` or
 * in `REDIS_SENTINELS` with `REDIS_SENTINEL_NAME`, and what they ask for in `REDIS_SENTINEL_USERNAME`,
 * `REDIS_SENTINEL_PASSWORD` and `REDIS_SENTINEL_TLS`, which use the TLS material above. `REDIS_NAT_MAP` is for both:
 * `10.0.0.7:6379=localhost:7000`, with commas between several.
 *
 * What the URL says holds; the other variables add what it leaves out. TLS is on when either the scheme or `REDIS_TLS`
 * asks for it; `rediss://` before Sentinels means them and the servers. Fails with a `ConfigError` that names the malformed
 * variable, or one that is of no use for such a Redis (Sentinels' for a Cluster, certificates where nothing says whether to speak TLS),
 * never its value.
 */
export const config: Config.Config<RedisSettings> = read.pipe(
  Config.mapEffect((all) => {
    const { nodes, sentinels } = placesIn(all)
    if (nodes !== undefined && sentinels !== undefined) {
      return refused("REDIS_CLUSTER_NODES and REDIS_SENTINELS are set: Redis is either a Cluster or behind Sentinels")
    }
    if (sentinels !== undefined && (all.url?.sentinel?.name ?? all.sentinel.name) === undefined) {
      return malformed("REDIS_SENTINEL_NAME", "the name by which the Sentinels know the master")
    }
    const problem = unused(all)
    return problem === undefined ? Effect.succeed(settingsFrom(all)) : refused(problem)
  })
)

const whereRedisIs = ["REDIS_URL", "REDIS_HOST", "REDIS_CLUSTER_NODES", "REDIS_SENTINELS"]
const ofSomeRedis = ["REDIS_PORT", "REDIS_USERNAME", "REDIS_PASSWORD", "REDIS_DB", "REDIS_TLS"]

/**
 * Whether the environment says where Redis is: `REDIS_URL`, `REDIS_HOST`, `REDIS_CLUSTER_NODES` or `REDIS_SENTINELS` is
 * set. Fails with a `ConfigError` when none is, but one like `REDIS_PASSWORD`: somebody means a server, and what is kept
 * there must not end with the process.
 */
export const isConfigured: Config.Config<boolean> = Config.all([...whereRedisIs, ...ofSomeRedis].map(optional)).pipe(
  Config.mapEffect((values) => {
    const set = (name: string, i: number) => {
      const value = values[i]
      return value === undefined || isServiceLink(Redacted.value(value)) ? [] : [name]
    }
    const [place] = whereRedisIs.flatMap(set)
    const [stray] = ofSomeRedis.flatMap((name, i) => set(name, whereRedisIs.length + i))
    return place === undefined && stray !== undefined
      ? refused(`${stray} is set, and nothing says where Redis is: set REDIS_URL or REDIS_HOST, or remove it`)
      : Effect.succeed(place !== undefined)
  })
)

const definedOnly = <A extends object>(fields: A): A =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as A
