/** What follows from an attempt: the report that ends it. */
import { Cause, Duration, Exit, Option, Result, Schema } from "effect"
import { type AnyJob, type Backoff, Postponed } from "../Job.ts"
import type { CompiledJob } from "./compiledJob.ts"
import type { Claim, Report } from "./queueEngine.ts"
import { type JobRecord, type StoredFailure, writeOutcome } from "./queueRecord.ts"

/** How long a job of an unknown kind waits for somebody who knows it, without being passed round in circles. */
export const unknownKindMillis = 1000

const defaultAttempts = 5
const defaultBackoff: Backoff = { kind: "exponential", delay: 1000, max: 3_600_000, jitter: 0.5 }

/** How many attempts a job has in all. */
export const attemptsOf = (job: AnyJob, record: JobRecord): number =>
  record.meta.a ?? job.defaults.attempts ?? defaultAttempts

/** How long the pause after failure number `failures` is. `random` is from 0 to 1. */
export const delayAfter = (backoff: Backoff, failures: number, random: number): number => {
  const base = Duration.toMillis(backoff.delay)
  if (backoff.kind === "fixed") return base
  const { factor = 2, jitter = 0, max = defaultBackoff.kind === "exponential" ? defaultBackoff.max! : 0 } = backoff
  const full = Math.min(base * factor ** (failures - 1), Duration.toMillis(max))
  return full * (1 - jitter * random)
}

/** The report on a job that came to a result. */
export const succeeded = (
  job: AnyJob,
  record: JobRecord,
  compiled: CompiledJob<any, any, any>,
  result: unknown,
  random: number
): Report => {
  const encoded = compiled.success.encode(result)
  return Result.isSuccess(encoded)
    ? { kind: "complete", outcome: outcomeText(job, record, encoded.success) }
    : failed(job, record, { reason: "undecodable", message: encoded.failure.message }, random)
}

/** The report on a failed attempt: another one, or the end. */
export const failed = (job: AnyJob, record: JobRecord, failure: StoredFailure, random: number): Report => {
  const failures = record.failures + 1
  const text = JSON.stringify(failure)
  return failures >= attemptsOf(job, record)
    ? { kind: "dead", outcome: outcomeText(job, record, text) }
    : {
      kind: "retry",
      delayMillis: delayAfter(record.meta.b ?? job.defaults.backoff ?? defaultBackoff, failures, random),
      failure: text
    }
}

/** The report on a job that no attempt can help. */
export const hopeless = (name: string, claim: Claim, failure: StoredFailure): Report => ({
  kind: "dead",
  outcome: writeOutcome((claim.record?.failures ?? 0) + 1, claim.record?.tenant, name, JSON.stringify(failure))
})

/** The report on a job whose handler was interrupted because somebody cancelled it. */
export const cancelled = (job: AnyJob, record: JobRecord, reason: string): Report => ({
  kind: "cancelled",
  outcome: outcomeText(job, record, reason)
})

const outcomeText = (job: AnyJob, record: JobRecord, body: string): string =>
  writeOutcome(record.failures + 1, record.tenant, job.name === job.queue ? "" : job.name, body)

const isPostponed = Schema.is(Postponed)

/** The report on how a handler ended. Never throws: whatever its error or its record hold, the job has to end. */
export const reportOf = (
  exit: Exit.Exit<unknown, unknown>,
  job: AnyJob,
  record: JobRecord,
  compiled: CompiledJob<any, any, any>,
  random: number
): Report => {
  try {
    return judge(exit, job, record, compiled, random)
  } catch {
    const failure: StoredFailure = { reason: "defect", message: "how it ended cannot be told" }
    return { kind: "dead", outcome: outcomeText(job, record, JSON.stringify(failure)) }
  }
}

const judge = (
  exit: Exit.Exit<unknown, unknown>,
  job: AnyJob,
  record: JobRecord,
  compiled: CompiledJob<any, any, any>,
  random: number
): Report => {
  if (Exit.isSuccess(exit)) return succeeded(job, record, compiled, exit.value, random)
  const error = Cause.findErrorOption(exit.cause)
  if (Option.isNone(error)) return failed(job, record, defect(exit.cause), random)
  if (isPostponed(error.value)) return { kind: "release", delayMillis: error.value.delayMillis }
  if (error.value instanceof AttemptTimeout) {
    return failed(job, record, { reason: "timeout", message: `it took longer than ${error.value.millis} ms` }, random)
  }
  return failed(job, record, typedFailure(compiled, error.value), random)
}

/** An attempt took longer than it may. Never seen outside: it becomes the failure's reason. */
export class AttemptTimeout {
  readonly millis: number
  constructor(millis: number) {
    this.millis = millis
  }
}

/** An error that the job's schema names, in the form in which it is stored. */
export const typedFailure = (compiled: CompiledJob<any, any, any>, error: unknown): StoredFailure => {
  const encoded = compiled.error.encode(error)
  return Result.isSuccess(encoded)
    ? { reason: "error", message: describe(error), error: encoded.success }
    : { reason: "undecodable", message: encoded.failure.message }
}

const maxDetail = 500

const describe = (error: unknown): string => {
  if (typeof error === "string") return error.slice(0, maxDetail)
  if (typeof error !== "object" || error === null) return typeof error
  const name = "_tag" in error && typeof error._tag === "string" ? error._tag : error instanceof Error ? error.name : ""
  const message = error instanceof Error ? error.message : ""
  return (message === "" ? name : `${name}: ${message}`).slice(0, maxDetail) || "unknown"
}

const defect = (cause: Cause.Cause<unknown>): StoredFailure => ({
  reason: "defect",
  message: Cause.hasInterruptsOnly(cause) ? "it interrupted itself" : describe(Cause.squash(cause))
})
