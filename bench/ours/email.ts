/** The job of the measurements as our library has it, and where its queues are. */
import { Layer, Schema } from "effect"
import { Job, JobQueue, type JobQueueOptions, Redis } from "effect-redis-kit"

/** The job on a queue of that name. */
export const emailJob = (queue = "send-email") =>
  Job.make("send-email", {
    queue,
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

/** Queues on the server at that port, with default options unless others are given. */
export const queuesAt = (port: number, options?: JobQueueOptions) =>
  Layer.provideMerge(JobQueue.layer(options), Redis.layer({ url: `redis://127.0.0.1:${port}` }))
