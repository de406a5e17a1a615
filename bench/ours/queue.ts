/** Our queue as a program uses it, with default options unless others are given. */
import { Effect, Exit, Layer, ManagedRuntime, Scope } from "effect"
import { JobQueue, type JobQueueOptions, JobWorker } from "effect-redis-kit"
import type { QueueAdapter } from "../support/jobs.ts"
import { fromCallers } from "./callers.ts"
import { emailJob, queuesAt } from "./email.ts"

const SendEmail = emailJob()

/** `kept` tells how many outcomes the server keeps. */
export const open = async (
  port: number,
  options?: JobQueueOptions
): Promise<QueueAdapter & { readonly kept: () => Promise<number> }> => {
  const runtime = ManagedRuntime.make(queuesAt(port, options))
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
    kept: () => runtime.runPromise(Effect.map(queue.counts(SendEmail), ({ finished }) => finished)),
    close: async () => {
      await runtime.runPromise(Scope.close(working, Exit.void))
      await runtime.dispose()
    }
  }
}
