/** What the holder of a lock has, what can go wrong with it, and how it is asked for. */
import { type Duration, type Effect, Schema } from "effect"
import type { ReplicaOptions } from "./internal/replicas.ts"
import type { InvalidInput, RedisError } from "./RedisError.ts"

/** Someone else holds `key` now. */
export class LockTaken extends Schema.TaggedError<LockTaken>()("LockTaken", { key: Schema.String }) {
  override get message(): string {
    return `Lock "${this.key}" is held by another owner`
  }
}

/** `key` was not free within the time that the caller would wait. */
export class LockTimeout extends Schema.TaggedError<LockTimeout>()("LockTimeout", {
  key: Schema.String,
  waitedMillis: Schema.Finite
}) {
  override get message(): string {
    return `Lock "${this.key}" was not free within ${this.waitedMillis} ms`
  }
}

/**
 * The lock was held, and is no longer:
 * - `removed`: the server says that its lease has passed, or that somebody took it away
 * - `unconfirmed`: the lease could not be extended in time, so that it may have passed
 * - `superseded`: a later holder has written what was to be written
 */
export class LockLost extends Schema.TaggedError<LockLost>()("LockLost", {
  key: Schema.String,
  reason: Schema.Literals(["removed", "unconfirmed", "superseded"])
}) {
  override get message(): string {
    return `Lock "${this.key}" was lost: ${losses[this.reason]}`
  }
}

const losses = {
  removed: "the lease passed, or somebody removed it",
  unconfirmed: "it could not be extended in time",
  superseded: "a later holder has written"
}

/** Where a lock is, and how long its lease lasts. */
export interface LeaseOptions {
  /** How long others are kept out after this process dies. While it lives, the lease is extended. Default: 30 seconds. */
  readonly ttl?: Duration.Input | undefined
  /** One lock for all namespaces on the server, instead of one for each. Default: false. */
  readonly shared?: boolean | undefined
}

/** How to get a lock that may be busy. */
export interface LockOptions extends LeaseOptions {
  /** How long to wait for it; 0 asks once. Default: 10 seconds. */
  readonly wait?: Duration.Input | undefined
}

/** A lock that is held. */
export interface Lease {
  readonly key: string
  /** This acquisition, as `inspect` shows it. */
  readonly holder: string
  /**
   * Greater with each acquisition of this lock. What may be written under a lock should refuse older tokens, since no
   * lock can stop a holder that was paused just before it writes: `guardedSet` does so in Redis, and in SQL
   * `UPDATE patients SET plan = $1, lock_token = $2 WHERE id = $3 AND lock_token <= $2` does, when it counts rows.
   *
   * At least the server's time in microseconds. So it grows also across a failover, unless the clock of the new master
   * is behind and the last acquisition had not been replicated, or the clock is set back over more than an hour.
   */
  readonly token: number
  /** Extends now, by `ttl` when given, and so makes sure that the lock is still held. Fails with LockLost when it is not. */
  readonly extend: (ttl?: Duration.Input) => Effect.Effect<void, LockLost | RedisError | InvalidInput>
  /** Fails when the lock is lost, and else waits for ever. */
  readonly lost: Effect.Effect<never, LockLost>
  /** Runs `work`, and interrupts it when the lock is lost. */
  readonly run: <A, E, R>(work: Effect.Effect<A, E, R>) => Effect.Effect<A, E | LockLost, R>
}

/** A lock as others see it. */
export interface LockStatus {
  readonly holder: string
  readonly token: number
  readonly heldFor: Duration.Duration
  /** When the lock falls free if its holder dies now. */
  readonly remaining: Duration.Duration
  readonly waiters: number
}

/** What runs under a lock; as a function, it is given the lease. */
export type Work<A, E, R> = Effect.Effect<A, E, R> | ((lease: Lease) => Effect.Effect<A, E, R>)

/** Where a guarded text is, and how long it is kept. */
export interface GuardOptions {
  /** Default: for ever. */
  readonly ttl?: Duration.Input | undefined
  /** One text for all namespaces on the server. Default: false. */
  readonly shared?: boolean | undefined
}

/** What applies where `LockOptions` say nothing, and how safe an acquisition is. */
export interface DistributedLockOptions extends Pick<LockOptions, "ttl" | "wait"> {
  /**
   * Has an acquisition wait until so many replicas know of it; it fails as `not-replicated`, and the lock is released,
   * when they do not in time. So a failover to one of them does not forget the lock; one to another replica may.
   * Extensions are not waited for. In memory there is nothing to wait for. Default: it does not wait.
   */
  readonly replicas?: ReplicaOptions | undefined
}
