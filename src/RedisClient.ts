/** The scoped ioredis connection that every live service is built on. */
import { Context, Duration, Effect, Layer, PubSub, Random, Result, type Scope, Semaphore, Stream } from "effect"
import { type ChainableCommander, type CommonRedisOptions, Redis as Client } from "ioredis"
import { allOrNothing } from "./internal/allOrNothing.ts"
import { addressOf, honest, ordinary, resolve } from "./internal/clientOptions.ts"
import { connect, type Connection, type ConnectionState } from "./internal/connection.ts"
import { duplicate } from "./internal/duplicate.ts"
import { isBroken, toRedisError } from "./internal/failure.ts"
import { escapeName } from "./internal/keys.ts"
import { registerProbe } from "./internal/probes.ts"
import { layOut } from "./internal/scriptArguments.ts"
import { ServerClock } from "./internal/serverClock.ts"
import { parseInfo } from "./internal/serverInfo.ts"
import { traced } from "./internal/span.ts"
import { makeSubscriber, type Subscribe } from "./internal/subscriber.ts"
import type { RedisSettings } from "./RedisConfig.ts"
import { RedisError } from "./RedisError.ts"
import type { RedisScript, ScriptValues } from "./RedisScript.ts"

export type { ConnectionState } from "./internal/connection.ts"
export type { Listener, Subscribe, SubscriptionKind } from "./internal/subscriber.ts"

/** Commands that keep a connection from others: they wait, change its mode, or end it. */
type Exclusive =
  | "blpop"
  | "brpop"
  | "brpoplpush"
  | "blmove"
  | "blmpop"
  | "bzpopmin"
  | "bzpopmax"
  | "bzmpop"
  | "xread"
  | "xreadgroup"
  | "wait"
  | "waitaof"
  | "watch"
  | "unwatch"
  | "multi"
  | "exec"
  | "discard"
  | "monitor"
  | "select"
  | "auth"
  | "hello"
  | "reset"
  | "subscribe"
  | "psubscribe"
  | "ssubscribe"
  | "unsubscribe"
  | "punsubscribe"
  | "sunsubscribe"
  | "quit"
  | "connect"
  | "disconnect"
  | "end"
  | "duplicate"

/** ioredis without the commands that would hold up everyone else on the connection; `reserve` has those. */
export type SharedClient = Omit<Client, Exclusive | `${Exclusive}Buffer`>

/** How a call differs from an ordinary one. */
export interface UseOptions {
  /** Running it twice is as good as once, so that it is sent again after a lost reply. Default: false. */
  readonly repeatable?: boolean | undefined
  /** The deadline, waiting for a connection included. Default: the connection's `commandTimeout`. */
  readonly timeout?: Duration.Input | undefined
}

/** ioredis' options for `duplicate`; it always connects before it is handed out. */
export type DuplicateOptions = Omit<CommonRedisOptions, "replyMapping">

/** A connection of one's own: it may block, watch and run transactions. */
export interface ReservedClient {
  /** Calls the client. Give a blocking command a `timeout` that is longer than it may block. */
  readonly use: <A>(
    command: string,
    f: (client: Client) => Promise<A>,
    options?: UseOptions
  ) => Effect.Effect<A, RedisError>
}

/** The connection itself, for what the services do not offer. */
export class RedisClient extends Context.Service<RedisClient, {
  /** What all keys and channels of this connection begin with. */
  readonly namespace: string
  /** Spells a key as `Redis` and the services do: `key("user", "123")` is `<namespace>:user:123`. */
  readonly key: (...parts: ReadonlyArray<string>) => string
  /** Calls ioredis; `command` names the call in errors and spans. Keys are sent as they are: spell them with `key`. */
  readonly use: <A>(
    command: string,
    f: (client: SharedClient) => Promise<A>,
    options?: UseOptions
  ) => Effect.Effect<A, RedisError>
  /** The ioredis client. It has no offline queue: calls fail while there is no connection. `use` waits and types errors. */
  readonly raw: Client
  /** An ioredis client to the same server, for a library that wants its own, with ioredis' defaults but for `options`. */
  readonly duplicate: (options?: DuplicateOptions) => Effect.Effect<Client, RedisError, Scope.Scope>
  /** Sends many commands at once. Each has its own result; they are not atomic. */
  readonly pipeline: (
    build: (pipeline: ChainableCommander) => ChainableCommander
  ) => Effect.Effect<ReadonlyArray<Result.Result<unknown, RedisError>>, RedisError>
  /** Runs many commands as one, or none. Fails with the first error; what ran before it in the transaction stays. */
  readonly multi: (
    build: (transaction: ChainableCommander) => ChainableCommander
  ) => Effect.Effect<ReadonlyArray<unknown>, RedisError>
  /** Runs a script by its hash; its text goes only to a server that does not know it yet. */
  readonly script: <Key extends string, Arg extends string, Rest extends string, A>(
    script: RedisScript<Key, Arg, Rest, A>,
    values: ScriptValues<Key, Arg, Rest>,
    options?: UseOptions
  ) => Effect.Effect<A, RedisError>
  /** A connection of one's own until the scope closes. Waits for a free one, and fails when there is none in time. */
  readonly reserve: Effect.Effect<ReservedClient, RedisError, Scope.Scope>
  /** Listens on the connection for subscriptions, which all listeners share. Returns when the server acknowledged. */
  readonly subscribe: Subscribe
  /** What the connection is doing, beginning with now. */
  readonly states: Stream.Stream<ConnectionState>
  /** The server's INFO, as fields. */
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
  const address = addressOf(settings, connectTimeoutMillis)
  const attributes = spanAttributes(settings)
  const named = (purpose: string) => ({
    ...address,
    connectionName: `${namespace}:${purpose}`.replace(/[^!-~]/g, "_")
  })

  const open = (purpose: string, onState: (state: ConnectionState) => void, exclusive = false) =>
    connect((retryStrategy) => new Client({ ...named(purpose), ...honest, retryStrategy }), {
      connectTimeoutMillis,
      commandTimeoutMillis,
      exclusive,
      random,
      onState
    })

  let state: ConnectionState = { _tag: "Connecting", epoch: 0 }
  const changes = yield* PubSub.sliding<ConnectionState>(64)
  const connection = yield* open("commands", (next) => {
    state = next
    PubSub.publishUnsafe(changes, next)
  })
  if (settings.connect !== "background") yield* connection.connected

  const use = usedThrough(connection, attributes)
  const { probe, subscribe } = yield* makeSubscriber((onState) => open("subscriptions", onState))

  const script: RedisClient["Service"]["script"] = (script, values, options) => {
    const text = script.text(clock.offsetMillis)
    const args = layOut(script, values)
    const keyCount = script.keys.length
    return Effect.flatMap(
      use(
        script.name,
        (client) => client.evalsha(text.sha, keyCount, ...args),
        options,
        (client) => client.eval(text.lua, keyCount, ...args)
      ),
      (reply) => {
        const decoded = script.decode(reply)
        return Result.isSuccess(decoded)
          ? Effect.succeed(decoded.success)
          : Effect.fail(unknownReply(script.name, decoded.failure.message))
      }
    )
  }

  const service = RedisClient.of({
    namespace,
    key: (...parts) => `${namespace}:${parts.join(":")}`,
    use,
    raw: connection.client,
    duplicate: (options) =>
      duplicate(
        () => new Client({ ...named("duplicate"), ...ordinary, ...options, lazyConnect: true }),
        connectTimeoutMillis
      ),
    pipeline: (build) =>
      Effect.map(
        use("pipeline", async (client) => {
          const replies = await build(client.pipeline()).exec() ?? []
          // Nothing came back: what that means, the connection decides for all of them together.
          if (replies.length > 0 && replies.every(([error]) => isBroken(error))) throw replies[0]![0]
          return replies
        }),
        (replies) =>
          replies.map(([error, reply]) =>
            error === null ? Result.succeed(reply) : Result.fail(toRedisError("pipeline", error, true))
          )
      ),
    multi: (build) =>
      Effect.flatMap(use("multi", (client) => build(client.multi()).exec()), (replies) => {
        const failed = (replies ?? []).find(([error]) => error !== null)
        return failed === undefined
          ? Effect.succeed((replies ?? []).map(([, reply]) => reply))
          : Effect.fail(toRedisError("multi", failed[0], true))
      }),
    script,
    reserve: makeReserve(
      open("reserved", () => {}, true),
      yield* Semaphore.make(settings.maxReserved ?? defaults.maxReserved),
      settings.maxReserved ?? defaults.maxReserved,
      commandTimeoutMillis,
      attributes
    ),
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

const spanAttributes = (settings: RedisSettings) => ({
  "db.system.name": "redis",
  "db.namespace": String(settings.db ?? 0),
  "server.address": settings.path ?? settings.host ?? "127.0.0.1",
  ...(settings.path === undefined ? { "server.port": settings.port ?? 6379 } : {})
})

const usedThrough = ({ calls }: Connection, attributes: Record<string, unknown>) =>
<A>(
  command: string,
  send: (client: Client) => Promise<A>,
  options?: UseOptions,
  sendInFull?: (client: Client) => Promise<A>
): Effect.Effect<A, RedisError> =>
  traced(
    calls.run(command, send, {
      repeatable: options?.repeatable,
      timeoutMillis: options?.timeout === undefined ? undefined : Duration.toMillis(options.timeout),
      sendInFull
    }),
    `redis ${command}`,
    "client",
    () => ({ ...attributes, "db.operation.name": command })
  )

const makeReserve = (
  open: Effect.Effect<Connection, never, Scope.Scope>,
  free: Semaphore.Semaphore,
  most: number,
  timeoutMillis: number,
  attributes: Record<string, unknown>
): RedisClient["Service"]["reserve"] =>
  allOrNothing(Effect.gen(function*() {
    yield* Effect.acquireRelease(
      Effect.timeoutOrElse(Effect.interruptible(free.take(1)), {
        duration: timeoutMillis,
        orElse: () =>
          Effect.fail(
            new RedisError({
              command: "reserve",
              reason: "connection",
              outcome: "NotSent",
              detail: `all ${most} reserved connections are in use`
            })
          )
      }),
      () => free.release(1)
    )
    const connection = yield* open
    yield* connection.connected
    return { use: usedThrough(connection, attributes) }
  }))

const unknownReply = (command: string, detail: string) =>
  new RedisError({ command, reason: "reply", outcome: "Rejected", detail: `its reply has an unknown shape: ${detail}` })
