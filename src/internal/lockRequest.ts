/** A request for a lock, checked. */
import { type Duration, Result } from "effect"
import type { InvalidInput } from "../RedisError.ts"
import { checkMillis } from "./durations.ts"
import { checkName } from "./keys.ts"
import type { Place } from "./lockEngine.ts"

/** Its owner is one acquisition, not a program or a fiber. */
export interface LockRequest {
  readonly key: string
  readonly place: Place
  readonly owner: string
  readonly ttlMillis: number
  readonly waitMillis: number
}

const leastTtlMillis = 100
const longestMillis = 24 * 60 * 60 * 1000

/** Whole milliseconds of a ttl: 100 ms to a day. */
export const checkTtl = (ttl: Duration.Input): Result.Result<number, InvalidInput> =>
  checkMillis("lock ttl", ttl, leastTtlMillis, longestMillis)

/** Whole milliseconds that a guarded text is kept: 1 ms to ten years. */
export const checkGuardTtl = (ttl: Duration.Input): Result.Result<number, InvalidInput> =>
  checkMillis("guarded ttl", ttl, 1, 3650 * longestMillis)

/** The key, ttl and wait of a request. */
export const checkLock = (
  key: string,
  ttl: Duration.Input,
  wait: Duration.Input
): Result.Result<Pick<LockRequest, "key" | "ttlMillis" | "waitMillis">, InvalidInput> => {
  const name = checkName("lock key", key)
  if (Result.isFailure(name)) return Result.fail(name.failure)
  const ttlMillis = checkTtl(ttl)
  if (Result.isFailure(ttlMillis)) return Result.fail(ttlMillis.failure)
  const waitMillis = checkMillis("lock wait", wait, 0, longestMillis)
  if (Result.isFailure(waitMillis)) return Result.fail(waitMillis.failure)
  return Result.succeed({ key, ttlMillis: ttlMillis.success, waitMillis: waitMillis.success })
}
