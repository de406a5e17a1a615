/** How calls of a connection differ from ordinary ones. */
import type { Duration } from "effect"
import type { ReplicaWait } from "./internal/replicas.ts"

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
   * they do not in time, though the script ran. Default: it does not wait.
   */
  readonly replicas?: ReplicaWait | undefined
}
