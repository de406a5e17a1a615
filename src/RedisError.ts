/** What can go wrong with a command, and whether it ran. */
import { Schema } from "effect"

/**
 * Why a command failed:
 * - `connection`: there is no connection, or it broke
 * - `authentication`: the server does not accept the user or the password
 * - `timeout`: no reply within the command's deadline
 * - `read-only`: the server takes no writes (a replica, or its persistence fails)
 * - `loading`: the server is reading its data and answers soon
 * - `cluster-down`: the cluster does not serve this key now
 * - `cross-slot`: its keys are in different hash slots of the Cluster, and one server has to have them all
 * - `out-of-memory`: `maxmemory` is reached and the server may not evict
 * - `not-replicated`: the master did it, but fewer replicas than asked for have it in time; a failover may undo it
 * - `no-permission`: the user's ACL rules forbid the command, key or channel
 * - `wrong-type`: the key holds another type of value
 * - `script`: a script failed, or one that runs too long keeps the server busy
 * - `reply`: the server refused the command for another reason, or its reply has an unknown shape
 */
export const RedisErrorReason = Schema.Literals([
  "connection",
  "authentication",
  "timeout",
  "read-only",
  "loading",
  "cluster-down",
  "cross-slot",
  "out-of-memory",
  "not-replicated",
  "no-permission",
  "wrong-type",
  "script",
  "reply"
])
export type RedisErrorReason = typeof RedisErrorReason.Type

/**
 * Whether the command ran:
 * - `NotSent`: it never left this process; sending it again is safe
 * - `Unknown`: it was written, but no reply came back; it may have run
 * - `Rejected`: the server answered with an error
 */
export const RedisErrorOutcome = Schema.Literals(["NotSent", "Unknown", "Rejected"])
export type RedisErrorOutcome = typeof RedisErrorOutcome.Type

/** Redis did not do what `command` asked. Holds no argument, value or credential. */
export class RedisError extends Schema.TaggedError<RedisError>()("RedisError", {
  command: Schema.String,
  reason: RedisErrorReason,
  outcome: RedisErrorOutcome,
  /** The server's or the network's own words, without arguments. */
  detail: Schema.String
}) {
  override get message(): string {
    return `Redis could not run ${this.command} (${this.reason}, ${outcomes[this.outcome]}): ${this.detail}`
  }
}

const outcomes: Record<RedisErrorOutcome, string> = {
  NotSent: "not sent",
  Unknown: "may have run",
  Rejected: "rejected"
}

/**
 * A value that cannot be sent or stored: it does not fit its schema, is above a limit, or is malformed.
 * Found before anything is sent, so nothing has happened.
 */
export class InvalidInput extends Schema.TaggedError<InvalidInput>()("InvalidInput", {
  /** What was refused, like `queue name` or `payload`. */
  input: Schema.String,
  /** Why, without the value itself. */
  problem: Schema.String
}) {
  override get message(): string {
    return `Invalid ${this.input}: ${this.problem}`
  }
}
