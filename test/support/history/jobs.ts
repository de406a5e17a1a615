/** The jobs of trials: their payload says what they do, and their outcome whose run was recorded. */
import { Effect, Schema } from "effect"
import * as Job from "../../../src/Job.ts"
import type { Run } from "./events.ts"

const run = { by: Schema.String, token: Schema.Finite, attempt: Schema.Finite }

/** How a job fails that is to fail. */
export class GaveUp extends Schema.TaggedError<GaveUp>()("GaveUp", run) {}

const Payload = Schema.Struct({
  mark: Schema.String,
  /** How long a run takes. */
  millis: Schema.Finite,
  /** How many runs fail before one succeeds. */
  failures: Schema.Finite
})
export type Payload = typeof Payload.Type

/** After so many failures a job is a dead letter. */
export const attempts = 3

const options = {
  payload: Payload,
  success: Schema.Struct(run),
  error: GaveUp,
  attempts,
  backoff: { kind: "exponential", delay: "30 millis", jitter: 0.5 }
} as const

const makeJob = (queue: string) => Job.make("perform", { ...options, queue })

/** Those of which many run at once. */
export const Many = makeJob("many")
/** Those of which one runs at a time. */
export const Single = makeJob("single")

export const trialJobs = [Many, Single]
export type TrialJob = typeof Many

/** Does what the payload says. */
export const perform = (payload: Payload, run: Run): Effect.Effect<Run, GaveUp> => {
  const end = payload.failures >= run.attempt ? Effect.fail(new GaveUp({ ...run })) : Effect.succeed(run)
  return payload.millis === 0 ? end : Effect.andThen(Effect.sleep(payload.millis), end)
}
