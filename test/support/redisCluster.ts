/** A real Redis Cluster of a test's own, whose nodes it may kill, stop and restart, and whose slots it may move. */
import { Effect, type Scope } from "effect"
import { randomUUID } from "node:crypto"
import { type ClusterNode, join, makeNode, selfOf, settle } from "./clusterNode.ts"
import { slotOf } from "./clusterSlot.ts"
import { isRunning, RedisServer, type RedisServerOptions, replicationSettings, tell } from "./redisServer.ts"
import { beginMigration, type SlotMigration } from "./slotMigration.ts"
import { until } from "./until.ts"

export type { ClusterNode, SlotMigration }

/** As which a node shows itself to clients and to other nodes. What is left out stays as it is. */
export interface Announced {
  /** A port of 127.0.0.1. Replicas replicate through it, so something has to listen there, unless there are none. */
  readonly port?: number
  readonly tlsPort?: number
  /** Shown to clients only; nodes go on using addresses. From Redis 7 on. */
  readonly hostname?: string
}

/** `password`, `acl`, `persistence` and `args` are those of each node. */
export interface RedisClusterOptions extends Pick<RedisServerOptions, "password" | "acl" | "persistence" | "args"> {
  /** Default: 3. */
  readonly masters?: number
  /** In all, dealt out to the masters in turn. Default: 3. */
  readonly replicas?: number
  /** How long a node has to be silent before the others think it down. Default: 1000. */
  readonly nodeTimeoutMillis?: number
  /** Nodes talk to each other over TLS, too. Each still has its plain port for clients. */
  readonly tls?: Omit<NonNullable<RedisServerOptions["tls"]>, "server">
  /** Called when a node is up and knows nobody yet, to put something in front of it: a `Proxy`, say. */
  readonly announce?: (node: ClusterNode, index: number) => Effect.Effect<Announced, never, Scope.Scope>
}

export interface RedisCluster {
  /** All nodes, running or not: first those that began as masters. */
  readonly nodes: ReadonlyArray<ClusterNode>
  /** For clients to begin with: the TLS ports if there are any. */
  readonly addresses: ReadonlyArray<{ readonly host: string; readonly port: number }>
  /** The same as a URL for each node, with the default user's password, if there is one. */
  readonly urls: ReadonlyArray<string>
  /** The same as one `REDIS_URL`. */
  readonly url: string
  /** Running nodes that say now that they are masters. */
  readonly masters: Effect.Effect<ReadonlyArray<ClusterNode>>
  /** Running nodes that say now that they are replicas, of `master` if given. */
  readonly replicas: (master?: ClusterNode) => Effect.Effect<ReadonlyArray<ClusterNode>>
  readonly slotOf: (key: string) => number
  /** The running master that has a key (a string) or a slot (a number) now. Dies when there is none. */
  readonly masterOf: (of: string | number) => Effect.Effect<ClusterNode>
  /** Begins to move the slot (or that of a key) to another master; the rest is up to the test. */
  readonly beginMigration: (of: string | number, to: ClusterNode) => Effect.Effect<SlotMigration>
  /** Moves a slot with its keys, `chunk` (default 100) of them at a time. Hooks run before the first chunk, and after each. */
  readonly migrate: (of: string | number, to: ClusterNode, hooks?: {
    readonly chunk?: number
    readonly beforeKeys?: Effect.Effect<unknown>
    readonly betweenKeys?: Effect.Effect<unknown>
  }) => Effect.Effect<void>
  /**
   * Makes a replica of `master` the master, and yields it when the Cluster has settled. Without a mode nothing is lost;
   * FORCE does not ask the old master, TAKEOVER nobody.
   */
  readonly failover: (master: ClusterNode, mode?: "FORCE" | "TAKEOVER") => Effect.Effect<ClusterNode>
  /** SIGKILLs the master of a key or slot and yields it, at once: `settled` waits for its replica to take over. */
  readonly killMaster: (of: string | number) => Effect.Effect<ClusterNode>
  /** Returns when the running nodes agree on everything, all slots are theirs, and all replicas follow. */
  readonly settled: Effect.Effect<void>
}

/** Starts a Cluster for as long as the scope is open; then all is killed and removed. Dies with what went wrong. */
const start = (options: RedisClusterOptions = {}): Effect.Effect<RedisCluster, never, Scope.Scope> =>
  Effect.gen(function*() {
    const { masters = 3, replicas = 3, tls } = options
    const secret = randomUUID()
    const nodes = yield* Effect.all(
      Array.from({ length: masters + replicas }, (_, index) => startNode(options, secret, index)),
      { concurrency: "unbounded" }
    )
    yield* join(nodes, masters)
    yield* settle(nodes)
    return makeCluster(nodes, secret, options.password, tls !== undefined)
  })

export const RedisCluster = { start }

const startNode = (options: RedisClusterOptions, secret: string, index: number) =>
  Effect.gen(function*() {
    const { acl, announce, args = [], nodeTimeoutMillis = 1000, password, persistence, tls } = options
    const settings = {
      "cluster-enabled": "yes",
      "cluster-node-timeout": nodeTimeoutMillis,
      // However long a replica was cut off: it may take over.
      "cluster-replica-validity-factor": 0,
      // Clients are not told of a replica that has received nothing yet; a ping every second is something.
      "repl-ping-replica-period": 1,
      ...replicationSettings(secret),
      ...(tls === undefined ? {} : { "tls-cluster": "yes", "tls-replication": "yes" })
    }
    const server = yield* RedisServer.start({
      ...(acl === undefined ? {} : { acl }),
      ...(password === undefined ? {} : { password }),
      ...(persistence === undefined ? {} : { persistence }),
      ...(tls === undefined ? {} : { tls }),
      harnessSecret: secret,
      args: [...Object.entries(settings).flatMap(([name, value]) => [`--${name}`, String(value)]), ...args]
    })
    const node = yield* makeNode(server, tls !== undefined)
    if (announce !== undefined) yield* show(node, yield* announce(node, index))
    return node
  })

const show = (node: ClusterNode, { hostname, port, tlsPort }: Announced) =>
  Effect.gen(function*() {
    if (port !== undefined) yield* node.cli("CONFIG", "SET", "cluster-announce-port", port)
    if (tlsPort !== undefined) yield* node.cli("CONFIG", "SET", "cluster-announce-tls-port", tlsPort)
    if (hostname !== undefined) {
      yield* node.cli("CONFIG", "SET", "cluster-announce-hostname", hostname)
      yield* node.cli("CONFIG", "SET", "cluster-preferred-endpoint-type", "hostname")
    }
    // For the next start.
    yield* node.cli("CONFIG", "REWRITE")
  })

const makeCluster = (
  nodes: ReadonlyArray<ClusterNode>,
  secret: string,
  password: string | undefined,
  tls: boolean
): RedisCluster => {
  const selves = Effect.promise(() =>
    Promise.all(nodes.filter(isRunning).map(async (node) => ({ node, view: await selfOf(node) })))
  )
  const toSlot = (of: string | number) => typeof of === "number" ? of : slotOf(of)
  const masterOf: RedisCluster["masterOf"] = (of) =>
    Effect.flatMap(selves, (all) => {
      const slot = toSlot(of)
      const [owner] = all
        .filter(({ view }) => view.flags.has("master") && view.slots.some(([a, b]) => a <= slot && slot <= b))
        // A master that was deposed, and has not heard of it yet, has the lower epoch.
        .toSorted((a, b) => b.view.epoch - a.view.epoch)
      return owner === undefined
        ? Effect.die(new Error(`No running node has slot ${slot}`))
        : Effect.succeed(owner.node)
    })
  const begin: RedisCluster["beginMigration"] = (of, to) =>
    Effect.flatMap(masterOf(of), (from) => beginMigration({ slot: toSlot(of), from, to, nodes, secret }))
  const replicas: RedisCluster["replicas"] = (master) =>
    Effect.map(selves, (all) =>
      all
        .filter(({ view }) => view.flags.has("slave") && (master === undefined || view.masterId === master.id))
        .map(({ node }) => node))
  const credentials = password === undefined ? "" : `:${encodeURIComponent(password)}@`
  const scheme = tls ? "rediss" : "redis"
  const addresses = nodes.map(({ host, nodePort }) => ({ host, port: nodePort }))

  return {
    nodes,
    addresses,
    urls: addresses.map(({ host, port }) => `${scheme}://${credentials}${host}:${port}`),
    url: `${scheme}://${credentials}${addresses.map(({ host, port }) => `${host}:${port}`).join(",")}?cluster=true`,
    masters: Effect.map(selves, (all) => all.filter(({ view }) => view.flags.has("master")).map(({ node }) => node)),
    replicas,
    slotOf,
    masterOf,
    beginMigration: begin,
    migrate: (of, to, { beforeKeys = Effect.void, betweenKeys = Effect.void, chunk = 100 } = {}) =>
      Effect.gen(function*() {
        const migration = yield* begin(of, to)
        yield* beforeKeys
        while ((yield* migration.moveKeys(chunk)) > 0) yield* betweenKeys
        yield* migration.finish
      }),
    failover: (master, mode) =>
      Effect.gen(function*() {
        const [replica] = yield* replicas(master)
        if (replica === undefined) return yield* Effect.die(new Error(`Master ${master.port} has no running replica`))
        yield* promote(replica, mode)
        yield* settle(nodes)
        return replica
      }),
    killMaster: (of) => Effect.tap(masterOf(of), (master) => master.kill()),
    settled: settle(nodes)
  }
}

/** Nodes vote for a replica of the same master only once in two timeouts, and say nothing otherwise: ask again. */
const promote = (replica: ClusterNode, mode: "FORCE" | "TAKEOVER" | undefined) => {
  const askEveryMillis = 1000
  let askedAt = -Infinity
  return until(`Replica ${replica.port} becomes master`, async () => {
    if (await Effect.runPromise(replica.role) === "master") return
    if (performance.now() - askedAt > askEveryMillis) {
      askedAt = performance.now()
      await tell(replica, "CLUSTER", "FAILOVER", ...(mode === undefined ? [] : [mode]))
    }
    throw new Error("It is still a replica")
  })
}
