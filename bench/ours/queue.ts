/** Our queue, with default options, as a program uses it. */
import { Effect, Exit, Layer, ManagedRuntime, Schema, Scope } from "effect"
import { Job, JobQueue, JobQueueLive, JobWorker, Redis } from "effect-redis-kit"
import type { Open } from "../support/case.ts"
import type { QueueAdapter } from "../support/jobs.ts"
import { fromCallers } from "./callers.ts"

const SendEmail = Job.make("send-email", {
  payload: Schema.Struct({
    id: Schema.String,
    user: Schema.String,
    kind: Schema.String,
    at: Schema.Finite,
    n: Schema.Finite,
    pad: Schema.String,
    ok: Schema.Boolean
  })
})

export const open: Open<QueueAdapter> = async (port) => {
  const runtime = ManagedRuntime.make(
    Layer.provideMerge(JobQueueLive, Redis.layer({ url: `redis://127.0.0.1:${port}` }))
  )
  const queue = await runtime.runPromise(JobQueue)
  const working = Scope.makeUnsafe()

  return {
    enqueue: (callers, next) =>
      runtime.runPromise(fromCallers(callers, next, (email) => queue.enqueue(SendEmail, email))),
    enqueueBatches: (next) => runtime.runPromise(fromCallers(1, next, (emails) => queue.enqueueAll(SendEmail, emails))),
    work: (concurrency, onJob) => {
      const handler = SendEmail.handler((email) => Effect.sync(() => onJob(email)))
      return runtime.runPromise(Layer.buildWithScope(JobWorker.layer([handler], { concurrency }), working))
    },
    left: () =>
      runtime.runPromise(
        Effect.map(queue.counts(SendEmail), ({ active, delayed, waiting }) => active + delayed + waiting)
      ),
    close: async () => {
      await runtime.runPromise(Scope.close(working, Exit.void))
      await runtime.dispose()
    }
  }
}
