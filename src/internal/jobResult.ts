/** Waits for a job's end, without asking again and again, and without missing it. */
import { Deferred, Duration, Effect, Option, Result } from "effect"
import type { AnyJob, Job } from "../Job.ts"
import { JobCancelled, JobFailed, ResultExpired, ResultTimeout } from "../JobErrors.ts"
import { InvalidInput, type RedisError } from "../RedisError.ts"
import { compile, type CompiledJob } from "./compiledJob.ts"
import { finiteMillis } from "./duration.ts"
import { checkId } from "./jobOptions.ts"
import type { JobSnapshot, QueueEngine } from "./queueEngine.ts"
import { openQueue } from "./queueOpening.ts"
import { locate, type Queue } from "./queuePartitions.ts"
import { readFailure } from "./queueRecord.ts"
import { traced } from "./span.ts"

// A letter may be lost with a connection; then the result is found this much later.
const lookAgainAfter = Duration.seconds(5)

type Ended<A, E> = Effect.Effect<A, E | JobFailed | JobCancelled | ResultExpired | InvalidInput>

/** `result` over an engine. */
export const makeResult = (engine: QueueEngine) =>
<Name extends string, P, A, E>(
  job: Job<Name, P, A, E>,
  id: string,
  { within }: { readonly within: Duration.Input }
): Effect.Effect<A, E | JobFailed | JobCancelled | ResultTimeout | ResultExpired | InvalidInput | RedisError> => {
  const millis = finiteMillis(within)
  if (millis === undefined) {
    return Effect.fail(new InvalidInput({ input: "within", problem: "it is not a finite duration of at least 0" }))
  }
  const checked = checkId("job id", id)
  if (Result.isFailure(checked)) return Effect.fail(checked.failure)
  const waiting = Effect.flatMap(openQueue(engine, job), (queue) => waitFor(engine, queue, id))
  return traced(
    Effect.flatMap(
      Effect.timeoutOrElse(waiting, { duration: millis, orElse: () => Effect.fail(new ResultTimeout({ id })) }),
      (known): Ended<A, E> => toResult(job, id, known, compile(job))
    ),
    `JobQueue.result`,
    "client",
    () => ({ "messaging.system": "redis", "messaging.destination.name": job.queue })
  )
}

/** Yields what is known of a job that has ended; undefined when nothing is. */
const waitFor = (
  engine: QueueEngine,
  queue: Queue,
  id: string
): Effect.Effect<JobSnapshot | undefined, RedisError> =>
  Effect.flatMap(locate(queue, id), (found) => {
    if (found === undefined || isOver(found.known)) return Effect.succeed(found?.known)
    const { store } = found
    return Effect.scoped(Effect.gen(function*() {
      let told = yield* Deferred.make<void>()
      yield* engine.inbox.listen(store.address, (letter) => {
        if (letter.kind === "gap" || (letter.kind === "finished" && letter.id === id)) {
          Deferred.doneUnsafe(told, Effect.void)
        }
      })
      while (true) {
        // Asked for once the inbox is open, so that an end in between is either seen here or told there.
        const current = yield* store.expect(id, engine.inbox.addressOf(store.address))
        if (isOver(current)) return current
        yield* Effect.timeoutOption(Deferred.await(told), lookAgainAfter)
        told = yield* Deferred.make<void>()
      }
    }))
  })

const isOver = (known: JobSnapshot | undefined): boolean => known === undefined || known.outcome !== undefined

const toResult = <A, E>(
  job: AnyJob,
  id: string,
  known: JobSnapshot | undefined,
  compiled: CompiledJob<any, A, E>
): Ended<A, E> => {
  const outcome = known?.outcome
  if (outcome === undefined) return Effect.fail(new ResultExpired({ id }))
  const name = known?.record?.name || outcome.name || job.queue
  if (name !== job.name) {
    return Effect.fail(new InvalidInput({ input: "job id", problem: `it is that of a job named "${name}"` }))
  }
  if (outcome.state === "cancelled") return Effect.fail(new JobCancelled({ id, reason: outcome.body }))
  if (outcome.state === "completed") {
    const result = compiled.success.decode(outcome.body)
    return Result.isSuccess(result)
      ? Effect.succeed(result.success)
      : Effect.fail(new JobFailed({ id, reason: "undecodable", detail: result.failure.message }))
  }
  const failure = readFailure(outcome.body)
  const error = failure.error === undefined
    ? Option.none<E>()
    : Result.getSuccess(compiled.error.decode(failure.error))
  return Option.isSome(error)
    ? Effect.fail(error.value)
    : Effect.fail(new JobFailed({ id, reason: failure.reason, detail: failure.message }))
}
