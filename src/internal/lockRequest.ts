/** A request for a lock, checked. */
import { type Duration, Result } from "effect"
import { InvalidInput } from "../RedisError.ts"
import { maxPayloadBytes } from "./codec.ts"
import { checkMillis } from "./duration.ts"
import type { Place } from "./lockEngine.ts"
import { checkOptionalReplicas, type ReplicaOptions, type ReplicaWait } from "./replicas.ts"

/** How long a lock's lease lasts, and how long a request waits for it. */
export interface LockTimes {
  readonly ttlMillis: number
  readonly waitMillis: number
}

/** What a layer is told. */
export interface LockSettings extends LockTimes {
  readonly replicas: ReplicaWait | undefined
}

/** Its owner is one acquisition, not a program or a fiber. */
export interface LockRequest extends LockTimes {
  readonly key: string
  readonly place: Place
  readonly owner: string
}

const leastTtlMillis = 100
const longestMillis = 24 * 60 * 60 * 1000

/** Whole milliseconds of a ttl: 100 ms to a day. */
export const checkTtl = (ttl: Duration.Input): Result.Result<number, InvalidInput> =>
  checkMillis("lock ttl", ttl, leastTtlMillis, longestMillis)

/** Whole milliseconds that a guarded text is kept: 1 ms to ten years. */
export const checkGuardTtl = (ttl: Duration.Input): Result.Result<number, InvalidInput> =>
  checkMillis("guarded ttl", ttl, 1, 3650 * longestMillis)

/** The times that are given, and those of `otherwise` for the rest. */
export const checkTimes = (
  given: { readonly ttl?: Duration.Input | undefined; readonly wait?: Duration.Input | undefined },
  otherwise: LockTimes
): Result.Result<LockTimes, InvalidInput> => {
  const ttlMillis = given.ttl === undefined ? Result.succeed(otherwise.ttlMillis) : checkTtl(given.ttl)
  if (Result.isFailure(ttlMillis)) return Result.fail(ttlMillis.failure)
  const waitMillis = given.wait === undefined
    ? Result.succeed(otherwise.waitMillis)
    : checkMillis("lock wait", given.wait, 0, longestMillis)
  return Result.map(waitMillis, (waitMillis) => ({ ttlMillis: ttlMillis.success, waitMillis }))
}

/** A layer's options, checked. */
export const checkSettings = (
  given: Parameters<typeof checkTimes>[0] & { readonly replicas?: ReplicaOptions | undefined },
  otherwise: LockTimes
): Result.Result<LockSettings, InvalidInput> =>
  Result.map(
    Result.all([checkTimes(given, otherwise), checkOptionalReplicas(given.replicas)]),
    ([times, replicas]) => ({ ...times, replicas })
  )

/** What is written under a token. */
export const checkGuarded = (token: number, value: string): Result.Result<void, InvalidInput> => {
  const problem = !Number.isSafeInteger(token) || token < 1
    ? "its token is not a positive whole number"
    : !value.isWellFormed()
    ? "it holds half a surrogate pair"
    : Buffer.byteLength(value) > maxPayloadBytes
    ? `it takes more than ${maxPayloadBytes} bytes`
    : undefined
  return problem === undefined ? Result.void : Result.fail(new InvalidInput({ input: "guarded value", problem }))
}
