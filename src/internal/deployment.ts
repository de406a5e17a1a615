/** What the services need to know of how Redis is deployed: on one server, behind Sentinels, or as a Cluster. */
import type { Effect, Result, Scope } from "effect"
import type { ChainableCommander, Redis as Client } from "ioredis"
import type { RedisError } from "../RedisError.ts"
import type { Calls, Routing } from "./call.ts"
import type { Connection, ConnectionState } from "./connection.ts"
import type { Place, WatchMaster } from "./place.ts"

export type Build = (commands: ChainableCommander) => ChainableCommander

/** How a connection is opened. */
export type Open = (purpose: string, more: {
  readonly onState?: ((state: ConnectionState) => void) | undefined
  /** Where to, when it is not what the settings say; or how to find out each time. */
  readonly place?: Place | ((signal: AbortSignal) => Promise<Place>) | undefined
  /** One caller has it for itself and may block it. */
  readonly exclusive?: boolean | undefined
  readonly routing?: Routing | undefined
  /** Tells when `place` may be another. */
  readonly watchMaster?: WatchMaster | undefined
  /** Told when the server sends a call elsewhere that cannot follow. */
  readonly misdirected?: (() => void) | undefined
}) => Effect.Effect<Connection, never, Scope.Scope>

/** A server, for what has no key. */
export interface Server {
  /** `host:port`, or the path of a socket. */
  readonly address: string
  readonly run: Calls["run"]
}

export interface Deployment {
  readonly client: Client
  /** Runs calls with whoever is in charge. */
  readonly run: Calls["run"]
  readonly connected: Effect.Effect<void, RedisError>
  /** `run` over connections for writes that wait for replicas, opened by the first one: they hold up each other only. */
  readonly openDurable: Effect.Effect<Calls["run"], never, Scope.Scope>
  /** The hash slot that all keys have in common; none on one server. */
  readonly slotOf:
    | ((
      command: string,
      keys: ReadonlyArray<string | Uint8Array>,
      nameOf?: (place: number) => string
    ) => number | undefined | RedisError)
    | undefined
  /** Runs a transaction. */
  readonly multi: (
    build: Build
  ) => Effect.Effect<ReadonlyArray<[error: Error | null, reply: unknown]> | null, RedisError>
  readonly pipeline: (build: Build) => Effect.Effect<ReadonlyArray<Result.Result<unknown, RedisError>>, RedisError>
  /** Those that take writes. */
  readonly servers: Effect.Effect<ReadonlyArray<Server>, RedisError>
  /** A connection for subscriptions, to a server that hears all channels. */
  readonly openSubscriptions: (
    onState: (state: ConnectionState) => void
  ) => Effect.Effect<Connection, never, Scope.Scope>
  /** A connection for one caller, to the server that has a key, or to any. */
  readonly openReserved: (key: string | undefined) => Effect.Effect<Connection, RedisError, Scope.Scope>
  readonly cluster: Sharding | undefined
}

/** What only a Cluster has. */
export interface Sharding {
  /** Opens a connection for subscriptions to a server, by its name. */
  readonly openShard: (
    server: string,
    onState: (state: ConnectionState) => void
  ) => Effect.Effect<Connection, never, Scope.Scope>
  /** The name of the server that has a slot. */
  readonly serverOf: (slot: number) => string | undefined
  /** Called when slots may have changed hands, until it is stopped. */
  readonly watch: (watcher: () => void) => () => void
  /** A server said that it is not in charge any more. */
  readonly outdated: () => void
}
