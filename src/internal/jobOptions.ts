/** Checks what a caller says of a job before anything is stored. */
import { Result } from "effect"
import type { Backoff, JobDefaults } from "../Job.ts"
import type { EnqueueOptions } from "../JobInfo.ts"
import { InvalidInput } from "../RedisError.ts"
import { finiteMillis, notWaitable, waitableMillis } from "./duration.ts"

const maxIdBytes = 256
const maxTagCharacters = 1024
// Past this, JavaScript's dates end.
const maxTime = 8.64e15

const invalid = (input: string, problem: string) => Result.fail(new InvalidInput({ input, problem }))
const fine = Result.succeed(undefined)

type Checked = Result.Result<undefined, InvalidInput>

const controlCharacter = /\p{Cc}/u

/** Ids, tenants and keys: values in Redis, so that all but control characters, which separate them in lists, may stand. */
export const checkId = (input: string, id: string): Checked => {
  if (typeof id !== "string" || id === "") return invalid(input, "it is empty, or no string")
  if (!id.isWellFormed()) return invalid(input, "it holds half a surrogate pair")
  if (controlCharacter.test(id)) return invalid(input, "it holds a control character")
  return Buffer.byteLength(id) > maxIdBytes ? invalid(input, `it is longer than ${maxIdBytes} bytes`) : fine
}

const maxReasonCharacters = 1024

/** Why somebody cancels a job. */
export const checkReason = (reason: string): Checked =>
  typeof reason === "string" && reason.isWellFormed() && reason.length <= maxReasonCharacters
    ? fine
    : invalid("reason", `it holds half a surrogate pair, or more than ${maxReasonCharacters} characters`)

/** How many dead letters run again; Infinity for all. */
export const checkReplayLimit = (limit: number): Checked =>
  limit >= 0 && (Number.isInteger(limit) || limit === Infinity)
    ? fine
    : invalid("limit", "it is not a whole number from 0")

/** How a job is run: what its definition and a call for it may both say. */
export const checkRunOptions = ({ attempts, backoff, priority, timeout }: JobDefaults): Checked => {
  if (timeout !== undefined && !((finiteMillis(timeout) ?? 0) > 0)) {
    return invalid("timeout", "it is not a finite duration above 0")
  }
  if (attempts !== undefined && !(Number.isInteger(attempts) && attempts >= 1 && attempts <= 1_000_000)) {
    return invalid("attempts", "it is not a whole number from 1")
  }
  if (priority !== undefined && !(Number.isInteger(priority) && priority >= 0 && priority <= 9)) {
    return invalid("priority", "it is not a whole number from 0 to 9")
  }
  return backoff === undefined ? fine : checkBackoff(backoff)
}

/** All that a call says, besides ids. */
export const checkEnqueueOptions = (options: Omit<EnqueueOptions, "id">): Checked => {
  const { at, delay, key, tags, tenant } = options
  if (at !== undefined && delay !== undefined) return invalid("delay", "either delay or at can be given, not both")
  if (delay !== undefined && waitableMillis(delay) === undefined) return invalid("delay", notWaitable)
  if (at !== undefined && !(at >= 0 && at <= maxTime)) return invalid("at", "it is not a point in time")
  if (tags !== undefined && !(tags.every((tag) => tag.isWellFormed()) && tags.join().length <= maxTagCharacters)) {
    return invalid("tags", `they hold half a surrogate pair, or more than ${maxTagCharacters} characters`)
  }
  for (const [input, value] of [["tenant", tenant], ["key", key]] as const) {
    const checked = value === undefined ? fine : checkId(input, value)
    if (Result.isFailure(checked)) return checked
  }
  return checkRunOptions(options)
}

const checkBackoff = (backoff: Backoff): Checked => {
  if (waitableMillis(backoff.delay) === undefined) {
    return invalid("backoff", "its delay is not a finite duration of at least 0")
  }
  if (backoff.kind === "fixed") return fine
  const { factor = 2, jitter = 0, max = 0 } = backoff
  if (!(Number.isFinite(factor) && factor >= 1)) return invalid("backoff", "its factor is not a number from 1")
  if (!(jitter >= 0 && jitter <= 1)) return invalid("backoff", "its jitter is not from 0 to 1")
  return finiteMillis(max) === undefined ? invalid("backoff", "its max is not a finite duration") : fine
}
