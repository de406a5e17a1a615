/** What is made of a job's definition, once. */
import { Result } from "effect"
import type { AnyJob, Job } from "../Job.ts"
import { InvalidInput } from "../RedisError.ts"
import { makeCodec, type WireSchema } from "./codec.ts"
import { finiteMillis } from "./duration.ts"
import { checkRunOptions } from "./jobOptions.ts"
import { checkName } from "./keys.ts"

/** A codec that never throws, whatever the schema's own code does. */
interface Codec<in out A> {
  readonly encode: (value: A) => Result.Result<string, InvalidInput>
  readonly decode: (text: string) => Result.Result<A, { readonly message: string }>
}

/** A job's codecs, and what is wrong with its definition. */
export interface CompiledJob<in out Payload, in out Success, in out Failure> {
  readonly payload: Codec<Payload>
  readonly success: Codec<Success>
  readonly error: Codec<Failure>
  /** How long an attempt may take unless the job says otherwise. */
  readonly timeoutMillis: number | undefined
  readonly problem: InvalidInput | undefined
}

// A schema may run code of the user's. What that throws is this job's failure, and must not end the worker.
const codecOf = <A>(input: string, schema: WireSchema<A>): Codec<A> => {
  const codec = makeCodec(input, schema)
  const threw = () => Result.fail(new InvalidInput({ input, problem: "its schema threw an error" }))
  return {
    encode: (value) => {
      try {
        return codec.encode(value)
      } catch {
        return threw()
      }
    },
    decode: (text) => {
      try {
        return codec.decode(text)
      } catch {
        return threw()
      }
    }
  }
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
      payload: codecOf("payload", job.payload),
      success: codecOf("result", job.success),
      error: codecOf("error", job.error),
      timeoutMillis: job.defaults.timeout === undefined ? undefined : finiteMillis(job.defaults.timeout),
      problem: Result.isFailure(checked) ? checked.failure : undefined
    }
    compiled.set(job, found)
  }
  return found
}
