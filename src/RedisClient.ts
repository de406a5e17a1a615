/** The scoped ioredis connection that every live service is built on. */
import { Context, Duration, Effect, Layer, PubSub, Random, type Result, Scope, Semaphore, Stream } from "effect"
import { type ChainableCommander, Cluster, type CommonRedisOptions, Redis as Client } from "ioredis"
import { concealed } from "./internal/client.ts"
import {
  addressOf,
  clusterOptions,
  describePlace,
  honest,
  ordinary,
  ordinarySentinels,
  type PlainClusterOptions,
  resolve,
  sentinelAddress
} from "./internal/clientOptions.ts"
import { clusterDeployment } from "./internal/clusterDeployment.ts"
import { connect, type ConnectionState } from "./internal/connection.ts"
import type { Deployment, Open } from "./internal/deployment.ts"
import { duplicate, duplicateCluster } from "./internal/duplicate.ts"
import { credentialsFrom, locateBoth } from "./internal/endpoint.ts"
import { toRedisError } from "./internal/failure.ts"
import { escapeName } from "./internal/keys.ts"
import { oneServer } from "./internal/oneServer.ts"
import type { Place } from "./internal/place.ts"
import { registerProbe } from "./internal/probes.ts"
import { scriptsThrough } from "./internal/runScript.ts"
import { askSentinels } from "./internal/sentinel.ts"
import { watchSentinels } from "./internal/sentinelWatch.ts"
import { ServerClock } from "./internal/serverClock.ts"
import { parseInfo } from "./internal/serverInfo.ts"
import { withShards } from "./internal/shards.ts"
import { traced } from "./internal/span.ts"
import { makeSubscriber, type Subscribe } from "./internal/subscriber.ts"
import { makeReserve, notPossible, spanAttributes, spanOf, usedThrough } from "./internal/using.ts"
import { RedisError } from "./RedisError.ts"
import type { RedisSettings } from "./RedisSettings.ts"
import type { ReservedClient, RunScript, ServerHandle, Use } from "./UseOptions.ts"

export type { ConnectionState } from "./internal/connection.ts"
export type { ReplicaOptions } from "./internal/replicas.ts"
export type { Listener, Subscribe, SubscriptionKind } from "./internal/subscriber.ts"
export type { ReservedClient, ScriptOptions, ServerHandle, SharedClient, Use, UseOptions } from "./UseOptions.ts"

/** ioredis' options for `duplicate`; it always connects before it is handed out. */
export type DuplicateOptions = Omit<CommonRedisOptions, "replyMapping">

/** ioredis' options for `duplicateCluster`. */
export type DuplicateClusterOptions = PlainClusterOptions

/** The connection itself, for what the services do not offer. */
export class RedisClient extends Context.Service<RedisClient, {
  /** What all keys and channels of this connection begin with. */
  readonly namespace: string
  /** One server, one of several that Sentinels name, or a Cluster. */
  readonly topology: "server" | "sentinel" | "cluster"
  /** Spells a key as `Redis` and the services do: `key("user", "123")` is `<namespace>:user:123`. */
  readonly key: (...parts: ReadonlyArray<string>) => string
  /** Calls ioredis; `command` names the call in errors and spans. Keys are sent as they are: spell them with `key`. */
  readonly use: Use
  /**
   * The ioredis client. It has no offline queue: calls fail while there is no connection. `use` waits and types errors.
   * In a Cluster, it sends each command to the server of its keys.
   */
  readonly raw: Client
  /**
   * An ioredis client to the same server, for a library that wants its own, with ioredis' defaults but for `options`. It
   * logs in with the credentials of this moment. In a Cluster this fails: see `duplicateCluster`.
   */
  readonly duplicate: (options?: DuplicateOptions) => Effect.Effect<Client, RedisError, Scope.Scope>
  /** `duplicate`, in a Cluster. Fails elsewhere. */
  readonly duplicateCluster: (options?: DuplicateClusterOptions) => Effect.Effect<Cluster, RedisError, Scope.Scope>
  /** The servers that take writes: one, or a Cluster's masters in the order of their addresses. */
  readonly servers: Effect.Effect<ReadonlyArray<ServerHandle>, RedisError>
  /**
   * Sends many commands at once. Each has its own result; they are not atomic. In a Cluster, each goes to the server of
   * its keys, and has a failure of its own when that one is away; where there is one server, all fail then.
   */
  readonly pipeline: (
    build: (pipeline: ChainableCommander) => ChainableCommander
  ) => Effect.Effect<ReadonlyArray<Result.Result<unknown, RedisError>>, RedisError>
  /**
   * Runs many commands as one, or none. Fails with the first error; what ran before it in the transaction stays. In a
   * Cluster, all keys have to be in one slot, or it fails as `cross-slot`, and `build` is called more than once.
   */
  readonly multi: (
    build: (transaction: ChainableCommander) => ChainableCommander
  ) => Effect.Effect<ReadonlyArray<unknown>, RedisError>
  /**
   * Runs a script by its hash; its text goes only to a server that does not know it yet. In a Cluster, all keys have to
   * be in one slot, or it fails as `cross-slot`.
   */
  readonly script: RunScript
  /**
   * A connection of one's own until the scope closes. Waits for a free one, and for the server while it is away, each as
   * long as a call may take; fails when there is none in time.
   */
  readonly reserve: Effect.Effect<ReservedClient, RedisError, Scope.Scope>
  /** `reserve`, in a Cluster to the server that has `key`, as it is sent. When the key moves, its calls fail as `cluster-down`. */
  readonly reserveFor: (key: string) => Effect.Effect<ReservedClient, RedisError, Scope.Scope>
  /** Listens on the connection for subscriptions, which all listeners share. Returns when the server acknowledged. */
  readonly subscribe: Subscribe
  /** What the connection is doing, beginning with now. */
  readonly states: Stream.Stream<ConnectionState>
  /** The server's INFO, as fields. In a Cluster, that of any server; `servers` leads to each. */
  readonly info: (section?: string) => Effect.Effect<Readonly<Record<string, string>>, RedisError>
}>()("effect-redis-kit/RedisClient") {
  /** Connects before the layer is ready, unless `connect` is `background`, and closes with the scope. */
  static readonly layer = (settings: RedisSettings = {}): Layer.Layer<RedisClient, RedisError> =>
    Layer.effect(this, make(settings))
}

const defaults = {
  connectTimeout: "5 seconds",
  commandTimeout: "5 seconds",
  maxReserved: 16,
  namespace: "app"
} as const

const make = Effect.fnUntraced(function*(given: RedisSettings) {
  const random = yield* Random.Random
  const settings = yield* resolve(given)
  const namespace = escapeName(settings.namespace ?? defaults.namespace)
  const connectTimeoutMillis = Duration.toMillis(settings.connectTimeout ?? defaults.connectTimeout)
  const commandTimeoutMillis = Duration.toMillis(settings.commandTimeout ?? defaults.commandTimeout)
  const clock = yield* ServerClock
  const credentials = settings.credentials === undefined
    ? undefined
    : credentialsFrom(settings.credentials, yield* Effect.context(), connectTimeoutMillis)
  const optionsFor = (purpose: string, place?: Place) => ({
    ...addressOf(settings, connectTimeoutMillis, place),
    connectionName: `${namespace}:${purpose}`.replace(/[^!-~]/g, "_")
  })
  const sentinels = settings.sentinel === undefined ? undefined : {
    name: settings.sentinel.name,
    nodes: settings.sentinel.nodes.map(({ host, port = 26_379 }) => ({ host, port })),
    natMap: settings.sentinel.natMap,
    timeoutMillis: connectTimeoutMillis,
    makeClient: (place: Place) =>
      concealed(new Client({ ...sentinelAddress(settings.sentinel!, connectTimeoutMillis, place), ...honest }))
  }
  const find = sentinels === undefined ? undefined : askSentinels(sentinels)
  const watchAll = sentinels === undefined || find === undefined ? undefined : yield* watchSentinels(sentinels, find)

  const open: Open = (
    purpose,
    { exclusive = false, onState = () => {}, misdirected, place = find, routing, watchMaster = watchAll }
  ) => {
    const fixed = typeof place === "function" ? undefined : place
    const located = typeof place === "function"
      ? async (signal: AbortSignal) => addressOf(settings, connectTimeoutMillis, await place(signal))
      : undefined
    return connect(
      () => new Client({ ...optionsFor(purpose, fixed), ...honest }),
      {
        connectTimeoutMillis,
        commandTimeoutMillis,
        exclusive,
        random,
        onState,
        routing,
        misdirected,
        locate: locateBoth(located, credentials),
        wantsMaster: settings.sentinel !== undefined,
        watchMaster
      }
    )
  }

  let state: ConnectionState = { _tag: "Connecting", epoch: 0 }
  const changes = yield* PubSub.sliding<ConnectionState>(64)
  const onState = (next: ConnectionState) => {
    state = next
    PubSub.publishUnsafe(changes, next)
  }
  const deployment: Deployment = yield* settings.cluster === undefined
    ? oneServer(open, describePlace(settings), onState)
    : clusterDeployment({
      settings: settings.cluster,
      namespace,
      open,
      makeClient: () => concealed(new Client({ ...optionsFor("cluster"), ...honest })),
      connectTimeoutMillis,
      commandTimeoutMillis,
      random,
      onState
    })
  if (settings.connect !== "background") yield* deployment.connected

  const attributes = spanAttributes(settings)
  const use = usedThrough(deployment.run, attributes)
  const { probe, subscribe: subscribeHere } = yield* makeSubscriber(deployment.openSubscriptions)
  const subscribe = yield* withShards(subscribeHere, deployment.cluster, commandTimeoutMillis)

  const durable = yield* Effect.cached(
    Effect.uninterruptible(Scope.provide(deployment.openDurable, yield* Effect.scope))
  )
  const script = scriptsThrough({
    use,
    useDurable: Effect.map(durable, (run) => usedThrough(run, attributes)),
    slotOf: deployment.slotOf,
    serverOf: deployment.cluster?.serverOf,
    offsetMillis: () => clock.offsetMillis,
    commandTimeoutMillis
  })
  const reserve = makeReserve(
    deployment.openReserved,
    yield* Semaphore.make(settings.maxReserved ?? defaults.maxReserved),
    settings.maxReserved ?? defaults.maxReserved,
    commandTimeoutMillis,
    attributes
  )
  const credentialsNow = Effect.tryPromise({
    try: (signal) => credentials?.(signal) ?? Promise.resolve({}),
    catch: (cause) => toRedisError("connect", cause, false)
  })

  const service = RedisClient.of({
    namespace,
    topology: settings.cluster !== undefined ? "cluster" : settings.sentinel !== undefined ? "sentinel" : "server",
    key: (...parts) => `${namespace}:${parts.join(":")}`,
    use: deployment.slotOf === undefined ? use : (command, send, options) => {
      const slot = options?.key === undefined ? undefined : deployment.slotOf?.(command, [options.key])
      return slot instanceof RedisError ? Effect.fail(slot) : use(command, send, options, { slot })
    },
    raw: deployment.client,
    duplicate: (options) =>
      settings.cluster === undefined
        ? Effect.flatMap(credentialsNow, (who) =>
          duplicate(
            () =>
              new Client({
                ...optionsFor("duplicate"),
                ...ordinarySentinels(settings, connectTimeoutMillis),
                ...who,
                ...ordinary,
                ...options,
                lazyConnect: true
              }),
            connectTimeoutMillis
          ))
        : Effect.fail(notPossible("duplicate", "in a Cluster, duplicateCluster yields a client of its own")),
    duplicateCluster: (options) =>
      settings.cluster === undefined
        ? Effect.fail(notPossible("duplicateCluster", "this is no Cluster; duplicate yields a client of its own"))
        : Effect.flatMap(credentialsNow, (who) =>
          duplicateCluster(
            () => new Cluster(...clusterOptions(settings, { ...optionsFor("duplicate"), ...who }, options)),
            connectTimeoutMillis
          )),
    servers: Effect.map(
      deployment.servers,
      (servers) => servers.map(({ address, run }) => ({ address, use: usedThrough(run, attributes) }))
    ),
    pipeline: (build) => traced(deployment.pipeline(build), "redis pipeline", "client", spanOf(attributes, "pipeline")),
    multi: (build) =>
      Effect.flatMap(
        traced(deployment.multi(build), "redis multi", "client", spanOf(attributes, "multi")),
        (replies) => {
          const failed = (replies ?? []).find(([error]) => error !== null)
          return failed === undefined
            ? Effect.succeed((replies ?? []).map(([, reply]) => reply))
            : Effect.fail(toRedisError("multi", failed[0], true))
        }
      ),
    script,
    reserve: reserve(undefined),
    reserveFor: reserve,
    subscribe,
    states: Stream.unwrap(
      Effect.map(
        PubSub.subscribe(changes),
        (later) => Stream.concat(Stream.succeed(state), Stream.fromSubscription(later))
      )
    ).pipe(
      Stream.takeUntil(({ _tag }) => _tag === "Closed")
    ),
    info: (section) =>
      Effect.map(
        use("info", (client) => section === undefined ? client.info() : client.info(section), { repeatable: true }),
        parseInfo
      )
  })
  yield* registerProbe(service, probe)
  return service
})
