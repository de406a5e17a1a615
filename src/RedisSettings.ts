/** What a connection needs to know: where the servers are, how to be let in, how long to wait. */
import type { Duration, Effect, Redacted } from "effect"

/** How to reach a server over TLS. Certificates are verified unless `verify` is false. */
export interface TlsSettings {
  /** Certificates to trust instead of the system's, in PEM. */
  readonly ca?: string | undefined
  /** The client's certificate, in PEM. */
  readonly cert?: string | undefined
  /** The client's private key, in PEM. */
  readonly key?: Redacted.Redacted | undefined
  /** The name that the server's certificate has to bear, when it is not the host's. */
  readonly servername?: string | undefined
  readonly verify?: boolean | undefined
}

/** Where a server listens. */
export interface Address {
  readonly host: string
  /** Default: 6379, for a Sentinel 26379. */
  readonly port?: number | undefined
}

/** A user and its password. */
export interface Credentials {
  readonly username?: string | undefined
  readonly password?: Redacted.Redacted | undefined
}

/**
 * Addresses by which servers know each other, like `10.0.0.7:6379`, and those by which they are reached from here: at the
 * same port, if none is given.
 */
export type NatMap = Readonly<Record<string, Address>>

/** Sentinels, which know which of several servers is the master now. */
export interface SentinelSettings extends Credentials {
  /** What the Sentinels call the master, like `mymaster`. */
  readonly name: string
  /** Some of them, at least one that is up. */
  readonly nodes: ReadonlyArray<Address>
  /**
   * For the Sentinels themselves; that of the servers stands in `tls` beside. A `rediss://` URL means both. Default: false.
   */
  readonly tls?: boolean | TlsSettings | undefined
  readonly natMap?: NatMap | undefined
}

/** A Redis Cluster. */
export interface ClusterSettings {
  /** Some of its nodes, at least one that is up. The others are found through it. */
  readonly nodes: ReadonlyArray<Address>
  readonly natMap?: NatMap | undefined
  /**
   * Where `Redis` reads: `replica` takes load off the masters, and may yield what was there a moment ago. Nothing else
   * reads from replicas. Default: `master`.
   */
  readonly readFrom?: "master" | "replica" | undefined
}

/** What a connection needs to know. Everything but the server has a default. */
export interface RedisSettings extends Credentials {
  /**
   * `redis://`, `rediss://` (TLS) or `unix://`, with credentials and database. Several hosts are nodes of a Cluster, as
   * is one with `?cluster=true`; with `?sentinel=<name of the master>` they are Sentinels. Other fields override its parts.
   */
  readonly url?: Redacted.Redacted | string | undefined
  /** Default: `127.0.0.1`. */
  readonly host?: string | undefined
  /** Default: 6379. */
  readonly port?: number | undefined
  /** A unix socket, instead of host and port. */
  readonly path?: string | undefined
  /** Instead of host and port: the master that these name, whichever it is. */
  readonly sentinel?: SentinelSettings | undefined
  /** Instead of host and port: all servers of a Cluster. */
  readonly cluster?: ClusterSettings | undefined
  /**
   * Asked for user and password before each connection is opened, so that those that were rotated are picked up. When it
   * fails, connecting does, and is tried again like any other failure. Instead of `username` and `password`.
   */
  readonly credentials?: Effect.Effect<Credentials, unknown> | undefined
  /** The database's number; a Cluster has only 0. Default: 0. */
  readonly db?: number | undefined
  readonly tls?: boolean | TlsSettings | undefined
  /** What all keys and channels begin with. Default: `app`. */
  readonly namespace?: string | undefined
  /** How long the layer waits for the server, and each reconnection for its socket. Default: 5 seconds. */
  readonly connectTimeout?: Duration.Input | undefined
  /** The deadline of a command, waiting for a connection included. Default: 5 seconds. */
  readonly commandTimeout?: Duration.Input | undefined
  /** `eager` fails when the server cannot be reached; `background` starts without it. Default: `eager`. */
  readonly connect?: "eager" | "background" | undefined
  /** How many connections `reserve` may hold at once. Default: 16. */
  readonly maxReserved?: number | undefined
}
