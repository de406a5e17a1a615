/** Writes that count only when replicas have them. */
import { type Duration, Effect, Result } from "effect"
import type { Redis as Client } from "ioredis"
import { InvalidInput, RedisError } from "../RedisError.ts"
import { checkMillis } from "./duration.ts"
import { isReply, toRedisError } from "./failure.ts"

/** How many replicas must have a write before it counts, and how long they are waited for. */
export interface ReplicaOptions {
  /** From 1. */
  readonly count: number
  /** From 1 millisecond to a minute. Default: 1 second. */
  readonly within?: Duration.Input | undefined
}

/** `ReplicaOptions`, checked. */
export interface ReplicaWait extends ReplicaOptions {
  /** In milliseconds. */
  readonly within: number
}

const defaultMillis = 1000
const mostReplicas = 1000
const mostMillis = 60_000

/** Refuses what cannot be waited for: no time is for ever to the server, and what is no number it refuses after the write. */
export const checkReplicas = (
  { count, within = defaultMillis }: ReplicaOptions
): Result.Result<ReplicaWait, InvalidInput> => {
  if (!Number.isInteger(count) || count < 1 || count > mostReplicas) {
    const problem = `it is not a whole number from 1 to ${mostReplicas}`
    return Result.fail(new InvalidInput({ input: "replicas.count", problem }))
  }
  return Result.map(checkMillis("replicas.within", within, 1, mostMillis), (millis) => ({ count, within: millis }))
}

/** `checkReplicas`, where nobody has to wait. */
export const checkOptionalReplicas = (
  options: ReplicaOptions | undefined
): Result.Result<ReplicaWait | undefined, InvalidInput> =>
  options === undefined ? Result.succeed(undefined) : checkReplicas(options)

const markMillis = 1000

/** Writes of one turn of the event loop that wait together. */
interface Together {
  count: number
  within: number
  readonly acknowledged: Promise<number>
}

const together = new WeakMap<Client, Together>()

/**
 * Sends WAIT behind what `send` sends, and behind what others send in the same turn: it is about all earlier writes of its
 * own connection. A repeated call may find everything done by an earlier one, on another connection; so a mark is written
 * near `key`, which replicas get after that. Rejects as refused only when `send` is.
 */
export const sendAndWait =
  <A>(send: (client: Client) => Promise<A>, wait: ReplicaWait, key: string, inCluster: boolean) =>
  (client: Client): Promise<readonly [A, number]> => {
    const written = send(client)
    return Promise.all([written, waitTogether(client, wait, key, inCluster)])
  }

const waitTogether = (client: Client, { count, within }: ReplicaWait, key: string, inCluster: boolean) => {
  const found = together.get(client)
  if (found !== undefined) {
    found.count = Math.max(found.count, count)
    found.within = Math.max(found.within, within)
    return found.acknowledged
  }
  const made: Together = {
    count,
    within,
    acknowledged: new Promise((resolve, reject) =>
      setImmediate(() => {
        together.delete(client)
        acknowledgedBy(client, made, key, inCluster).then(resolve, reject)
      })
    )
  }
  together.set(client, made)
  return made.acknowledged
}

const acknowledgedBy = (client: Client, { count, within }: ReplicaWait, key: string, inCluster: boolean) =>
  Promise.all([
    // The server may be about to take the slot over.
    inCluster ? client.asking() : undefined,
    client.set(markFor(key), "", "PX", markMillis),
    client.wait(count, within)
  ]).then(([, , acknowledged]) => acknowledged, (cause: unknown) => {
    if (!isReply(cause)) throw cause
    // The slot moves, and the mark has no place where the script had one; or the master became a replica.
    if (/^(MOVED|ASK|CLUSTERDOWN|UNBLOCKED)\b/.test(cause.message)) return 0
    const { detail, reason } = toRedisError("wait", cause, true)
    throw new RedisError({ command: "wait", reason, outcome: "Unknown", detail })
  })

/** In the same slot, and in the same namespace. */
export const markFor = (key: string): string =>
  key.includes("{") ? `${key}:@wait` : `${key.slice(0, key.indexOf(":") + 1)}{${key}}:@wait`

/** The reply, if as many replicas as were wanted have acknowledged. */
export const requireReplicas = <A>(
  command: string,
  { count }: ReplicaWait,
  [reply, acknowledged]: readonly [A, number]
): Effect.Effect<A, RedisError> =>
  acknowledged >= count ? Effect.succeed(reply) : Effect.fail(
    new RedisError({
      command,
      reason: "not-replicated",
      outcome: "Unknown",
      detail: `the master has it, and ${acknowledged} of ${count} replicas: a failover may lose it`
    })
  )
