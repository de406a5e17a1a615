/** What is made of a job's definition, once. */
import { Result } from "effect"
import type { AnyJob, Job } from "../Job.ts"
import type { InvalidInput } from "../RedisError.ts"
import { type Codec, makeCodec } from "./codec.ts"
import { finiteMillis } from "./duration.ts"
import { checkRunOptions } from "./jobOptions.ts"
import { checkName } from "./keys.ts"

/** A job's codecs, and what is wrong with its definition. */
export interface CompiledJob<in out Payload, in out Success, in out Failure> {
  readonly payload: Codec<Payload>
  readonly success: Codec<Success>
  readonly error: Codec<Failure>
  /** How long an attempt may take unless the job says otherwise. */
  readonly timeoutMillis: number | undefined
  readonly problem: InvalidInput | undefined
}

const compiled = new WeakMap<AnyJob, CompiledJob<any, any, any>>()

/** Compiles `job`, unless that has been done. */
export function compile<Name extends string, P, A, E>(job: Job<Name, P, A, E>): CompiledJob<P, A, E>
export function compile(job: AnyJob): CompiledJob<any, any, any>
export function compile(job: AnyJob): CompiledJob<any, any, any> {
  let found = compiled.get(job)
  if (found === undefined) {
    const checked = Result.flatMap(checkName("job name", job.name), () => checkRunOptions(job.defaults))
    found = {
      payload: makeCodec("payload", job.payload),
      success: makeCodec("result", job.success),
      error: makeCodec("error", job.error),
      timeoutMillis: job.defaults.timeout === undefined ? undefined : finiteMillis(job.defaults.timeout),
      problem: Result.isFailure(checked) ? checked.failure : undefined
    }
    compiled.set(job, found)
  }
  return found
}
