/** One run of a job's handler. */
import { Effect } from "effect"
import type { JobContext, JobHandler } from "../Job.ts"
import { AttemptTimeout } from "./jobAttempt.ts"
import { traced } from "./span.ts"
import { spanOf } from "./traceContext.ts"

/** With a scope of its own, and a timeout if there is one. */
export const attempt = <R>(
  handler: JobHandler<R>,
  payload: unknown,
  about: JobContext,
  timeoutMillis: number | undefined
): Effect.Effect<unknown, unknown, R> => {
  const run = Effect.scoped(Effect.suspend(() => handler.run(payload, about)))
  return timeoutMillis === undefined
    ? run
    : Effect.timeoutOrElse(run, {
      duration: timeoutMillis,
      orElse: () => Effect.fail(new AttemptTimeout(timeoutMillis))
    })
}

/** With a span around it, linked to the producer's. */
export const tracedAttempt = <R>(
  self: Effect.Effect<unknown, unknown, R>,
  about: JobContext,
  traceparent: string | undefined
): Effect.Effect<unknown, unknown, R> => {
  const producer = traceparent === undefined ? undefined : spanOf(traceparent)
  return traced(
    self,
    `process ${about.queue}`,
    "consumer",
    () => ({
      "messaging.system": "redis",
      "messaging.operation.type": "process",
      "messaging.destination.name": about.queue,
      "messaging.message.id": about.id
    }),
    producer === undefined ? [] : [{ span: producer, attributes: {} }]
  )
}
