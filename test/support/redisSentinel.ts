/** A real master with replicas under the eyes of real Sentinels, of a test's own, all of which it may kill and stop. */
import { Effect, type Scope } from "effect"
import { randomUUID } from "node:crypto"
import {
  harnessUser,
  isRunning,
  RedisServer,
  type RedisServerOptions,
  replicationSettings,
  tell
} from "./redisServer.ts"
import { request } from "./resp.ts"
import { masterPort, type Sentinel, settle } from "./sentinelState.ts"
import { until } from "./until.ts"

export type { Sentinel }

type ServerOptions = Pick<RedisServerOptions, "password" | "acl" | "args">

/** `password`, `acl`, `persistence` and `args` are those of the servers. */
export interface RedisSentinelOptions extends ServerOptions, Pick<RedisServerOptions, "persistence"> {
  /** What the Sentinels call the master. Default: `main`. */
  readonly name?: string
  /** Default: 1. */
  readonly replicas?: number
  /** How many there are, and what they ask clients for. A majority of them decides. Default: 3 that ask for nothing. */
  readonly sentinels?: ServerOptions & { readonly count?: number }
  /** How long a server has to be silent before a quorum thinks it down (the other Sentinels: a little later). Default: 500. */
  readonly downAfterMillis?: number
  /** How long a failover, or a step of it, may take before it is tried again. Default: 2000. */
  readonly failoverTimeoutMillis?: number
  /**
   * Servers and Sentinels talk to each other over TLS, and the Sentinels tell clients the servers' TLS ports. With
   * `only: "sentinels"` nothing but the Sentinels' own TLS ports is opened.
   */
  readonly tls?: Omit<NonNullable<RedisServerOptions["tls"]>, "server"> & { readonly only?: "sentinels" }
}

export interface RedisSentinel {
  readonly name: string
  /** All Sentinels, running or not. */
  readonly sentinels: ReadonlyArray<Sentinel>
  /** Where clients find the Sentinels: the TLS ports if there are any. */
  readonly addresses: ReadonlyArray<{ readonly host: string; readonly port: number }>
  /** The same as one `REDIS_URL`, with the password of the servers' default user, if there is one. */
  readonly url: string
  /** All servers, running or not: first the one that began as master. */
  readonly servers: ReadonlyArray<RedisServer>
  /** The master as the first running Sentinel would tell a client now. It may have died a moment ago. */
  readonly master: Effect.Effect<RedisServer>
  /** The running servers beside `master`. */
  readonly replicas: Effect.Effect<ReadonlyArray<RedisServer>>
  /** Makes a replica the master, and yields it when all has settled: the old master replicates it then. */
  readonly failover: Effect.Effect<RedisServer>
  /** SIGKILLs the master and yields it, at once: `settled` waits for a replica to take over. */
  readonly killMaster: Effect.Effect<RedisServer>
  /** Returns when the running Sentinels agree on a running master, all running replicas follow it, and who is down is known. */
  readonly settled: Effect.Effect<void>
}

/** Starts all of it for as long as the scope is open; then all is killed and removed. Dies with what went wrong. */
const start = (options: RedisSentinelOptions = {}): Effect.Effect<RedisSentinel, never, Scope.Scope> =>
  Effect.gen(function*() {
    const { name = "main", replicas = 1, sentinels: { count = 3 } = {} } = options
    const secret = randomUUID()
    const [servers, sentinels] = yield* Effect.all([
      Effect.all(Array.from({ length: 1 + replicas }, () => startServer(options, secret)), {
        concurrency: "unbounded"
      }),
      Effect.all(Array.from({ length: count }, () => startSentinel(options, secret)), { concurrency: "unbounded" })
    ], { concurrency: "unbounded" })
    const [master, ...others] = servers
    if (master === undefined) return yield* Effect.die(new Error("There is no master"))
    yield* Effect.forEach(others, (server) => replicate(server, master, linkPort(options, master)), {
      concurrency: "unbounded"
    })
    yield* watch(options, { name, secret, sentinels, master })
    const deployment = { name, servers, sentinels, linkPort: (server: RedisServer) => linkPort(options, server) }
    yield* settle(deployment)

    const masterNow = Effect.promise(async () => {
      const port = await masterPort(deployment)
      const found = servers.find((server) => deployment.linkPort(server) === port)
      if (found === undefined) throw new Error(`The Sentinels name a stranger, at port ${port}`)
      return found
    })
    const addresses = sentinels.map(({ host, port, tlsPort }) => ({ host, port: tlsPort ?? port }))
    const scheme = usesTls(options) ? "rediss" : "redis"
    const credentials = options.password === undefined ? "" : `:${encodeURIComponent(options.password)}@`
    const hosts = addresses.map(({ host, port }) => `${host}:${port}`).join(",")
    return {
      name,
      sentinels,
      addresses,
      url: `${scheme}://${credentials}${hosts}?sentinel=${encodeURIComponent(name)}`,
      servers,
      master: masterNow,
      replicas: Effect.map(masterNow, (now) => servers.filter((server) => server !== now && isRunning(server))),
      failover: Effect.gen(function*() {
        const before = yield* masterNow
        yield* until("The Sentinels name another master", async () => {
          if (await masterPort(deployment) !== deployment.linkPort(before)) return
          // Refused while one is under way; one that was given up is begun again.
          await tell(sentinels.find(isRunning) ?? before, "SENTINEL", "FAILOVER", name)
          throw new Error("A failover has begun")
        })
        yield* settle(deployment)
        return yield* masterNow
      }),
      killMaster: Effect.tap(masterNow, (server) => server.kill()),
      settled: settle(deployment)
    }
  })

export const RedisSentinel = { start }

const usesTls = ({ tls }: RedisSentinelOptions) => tls !== undefined && tls.only !== "sentinels"

/** The port by which servers and Sentinels know a server. */
const linkPort = (options: RedisSentinelOptions, { port, tlsPort }: RedisServer) =>
  usesTls(options) && tlsPort !== undefined ? tlsPort : port

const serverOptions = ({ acl, args = [], password }: ServerOptions, own: {
  readonly secret: string
  readonly tls: RedisSentinelOptions["tls"]
  readonly settings: Readonly<Record<string, string>>
  readonly linksOverTls: boolean
}): RedisServerOptions => ({
  ...(acl === undefined ? {} : { acl }),
  ...(password === undefined ? {} : { password }),
  ...(own.tls === undefined ? {} : { tls: own.tls }),
  harnessSecret: own.secret,
  args: [
    ...Object.entries({ ...own.settings, ...(own.linksOverTls ? { "tls-replication": "yes" } : {}) })
      .flatMap(([name, value]) => [`--${name}`, value]),
    ...args
  ]
})

const startServer = (options: RedisSentinelOptions, secret: string) =>
  RedisServer.start({
    ...serverOptions(options, {
      secret,
      tls: usesTls(options) ? options.tls : undefined,
      linksOverTls: usesTls(options),
      settings: replicationSettings(secret)
    }),
    ...(options.persistence === undefined ? {} : { persistence: options.persistence })
  })

const startSentinel = (options: RedisSentinelOptions, secret: string): Effect.Effect<Sentinel, never, Scope.Scope> =>
  Effect.gen(function*() {
    const own = options.sentinels ?? {}
    const server = yield* RedisServer.start(
      serverOptions({ ...own, args: ["--sentinel", ...own.args ?? []] }, {
        secret,
        tls: options.tls,
        linksOverTls: usesTls(options),
        settings: {}
      })
    )
    yield* server.cli("SENTINEL", "CONFIG", "SET", "sentinel-user", harnessUser)
    yield* server.cli("SENTINEL", "CONFIG", "SET", "sentinel-pass", secret)
    yield* hurry(server)
    // The server's own object, as it has getters.
    return Object.assign(server, {
      id: String(yield* server.cli("SENTINEL", "MYID")),
      restart: Effect.andThen(server.restart, hurry(server))
    })
  })

/** Sentinels look every second or ten, and leave an old master alone for eight. Older than Redis 7, they cannot be hurried. */
const hurry = (sentinel: RedisServer) => {
  const periods = {
    "ask-period": 100,
    // In a failover they ask replicas once a second, whatever is said here. They promote none whose answer is older than
    // five pings or three infos, and after four publish periods the others undo a promotion that nobody told them of.
    "ping-period": 300,
    "info-period": 400,
    "publish-period": 500,
    "min-link-reconnect-period": 500,
    // One that was paused in a test mistrusts its clock afterwards.
    "tilt-period": 1000
  }
  return sentinel.version[0] < 7
    ? Effect.void
    : sentinel.cli("SENTINEL", "DEBUG", ...Object.entries(periods).flat())
}

const replicate = (server: RedisServer, master: RedisServer, port: number) =>
  Effect.gen(function*() {
    yield* server.cli("REPLICAOF", master.host, port)
    // For the next start.
    yield* server.cli("CONFIG", "REWRITE")
  })

/** Sets the Sentinels on the master, and makes them known to each other, which else takes as long as their hellos do. */
const watch = (options: RedisSentinelOptions, { master, name, secret, sentinels }: {
  readonly name: string
  readonly secret: string
  readonly sentinels: ReadonlyArray<Sentinel>
  readonly master: RedisServer
}) => {
  const { downAfterMillis = 500, failoverTimeoutMillis = 2000 } = options
  const quorum = Math.floor(sentinels.length / 2) + 1
  const port = linkPort(options, master)
  const settings = (index: number) => ({
    "auth-user": harnessUser,
    "auth-pass": secret,
    // Where all notice a death at once, each may vote for itself, and nothing happens for seconds.
    "down-after-milliseconds": downAfterMillis + (index < quorum ? 0 : 300),
    "failover-timeout": failoverTimeoutMillis
  })
  return Effect.promise(() =>
    Promise.all(sentinels.map((sentinel, index) =>
      request(sentinel.port, [
        ["AUTH", harnessUser, secret],
        ["SENTINEL", "MONITOR", name, master.host, port, quorum],
        ["SENTINEL", "SET", name, ...Object.entries(settings(index)).flat()],
        ...sentinels.filter((other) => other !== sentinel).map((other) => {
          const otherPort = usesTls(options) && other.tlsPort !== undefined ? other.tlsPort : other.port
          const hello = [other.host, otherPort, other.id, 0, name, master.host, port, 0]
          return ["PUBLISH", "__sentinel__:hello", hello.join(",")]
        })
      ])
    ))
  )
}
