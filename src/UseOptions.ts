/** How calls of a connection are made, and how they differ from ordinary ones. */
import type { Duration, Effect } from "effect"
import type { Redis as Client } from "ioredis"
import type { Exclusive } from "./internal/exclusive.ts"
import type { ReplicaOptions } from "./internal/replicas.ts"
import type { RedisError } from "./RedisError.ts"
import type { RedisScript, ScriptValues } from "./RedisScript.ts"

/** ioredis without the commands that would hold up everyone else on the connection; `reserve` has those. */
export type SharedClient = Omit<Client, Exclusive | `${Exclusive}Buffer`>

/** How a call differs from an ordinary one. */
export interface UseOptions {
  /** Running it twice is as good as once, so that it is sent again after a lost reply. Default: false. */
  readonly repeatable?: boolean | undefined
  /** The deadline, waiting for a connection included. Default: the connection's `commandTimeout`. */
  readonly timeout?: Duration.Input | undefined
  /**
   * In a Cluster: a key that the call is about, as it is sent. The call then runs on the server that has it, and again on
   * another when that one refuses it. Without, each command finds its server by its own keys. Elsewhere it changes nothing.
   */
  readonly key?: string | undefined
  /** In a Cluster whose settings say `readFrom: "replica"`: an old value will do. Default: false. */
  readonly fromReplica?: boolean | undefined
}

/** How a script's call differs from an ordinary one. */
export interface ScriptOptions extends Omit<UseOptions, "key"> {
  /**
   * Has it wait until so many replicas have what it wrote, on a connection for such writes; fails as `not-replicated` when
   * they do not in time, though the script ran. The script's first key is marked for it: `<key>:@wait` is written, and
   * expires within a second. Default: it does not wait.
   */
  readonly replicas?: ReplicaOptions | undefined
}

/** Calls ioredis; `command` names the call in errors and spans. */
export type Use = <A>(
  command: string,
  f: (client: SharedClient) => Promise<A>,
  options?: UseOptions
) => Effect.Effect<A, RedisError>

/** Runs a script. */
export type RunScript = <Key extends string, Arg extends string, Rest extends string, A>(
  script: RedisScript<Key, Arg, Rest, A>,
  values: ScriptValues<Key, Arg, Rest>,
  options?: ScriptOptions
) => Effect.Effect<A, RedisError>

/** A server that takes writes, for commands that have no key, like SCAN or DBSIZE. */
export interface ServerHandle {
  /** `host:port`, or the path of a socket. */
  readonly address: string
  readonly use: Use
}

/** A connection of one's own: it may block, watch and run transactions. */
export interface ReservedClient {
  /** Calls the client. Give a blocking command a `timeout` that is longer than it may block. */
  readonly use: <A>(
    command: string,
    f: (client: Client) => Promise<A>,
    options?: UseOptions
  ) => Effect.Effect<A, RedisError>
}
