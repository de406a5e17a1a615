/** Queues, workers, and whoever waits for jobs or leases them, to be opened and closed again and again. */
import { Context, Deferred, Effect, Layer, Schema, Stream } from "effect"
import * as Job from "../../src/Job.ts"
import { JobQueue, JobQueueLive } from "../../src/JobQueue.ts"
import { JobWorker } from "../../src/JobWorker.ts"
import { RedisClient } from "../../src/RedisClient.ts"
import { buildAnew, openClient } from "./connections.ts"
import type { Thing } from "./cycles.ts"

const Work = Job.make("work", { payload: Schema.String, success: Schema.String })

const openQueue = (url: string) =>
  Effect.gen(function*() {
    const client = yield* openClient(url)
    const context = yield* Layer.build(Layer.provide(JobQueueLive, Layer.succeed(RedisClient, client)))
    return { client, queue: Context.get(context, JobQueue) }
  })

/** Tells when not exactly `waiting` jobs wait, and none is held. */
const allWait = (queue: JobQueue["Service"], name: string, waiting: number) =>
  Effect.map(
    queue.counts(name),
    (counts) => counts.waiting === waiting && counts.active === 0 ? [] : [`${name}: ${JSON.stringify(counts)}`]
  )

const jobOn = (queue: string) => Job.make("work", { payload: Schema.String, queue })

export const queues = (url: string): ReadonlyArray<Thing> => [
  {
    name: "JobQueue.layer",
    open: Effect.map(openClient(url), (client) => ({
      client,
      cycle: () =>
        Effect.flatMap(
          buildAnew(Layer.provide(JobQueueLive, Layer.succeed(RedisClient, client))),
          (context) => Context.get(context, JobQueue).size("none")
        )
    }))
  },
  {
    name: "JobWorker.layer, idle",
    open: Effect.map(openQueue(url), ({ client, queue }) => ({
      client,
      cycle: () =>
        buildAnew(
          Layer.provide(
            JobWorker.layer([Work.handler(() => Effect.succeed("done"))]),
            Layer.succeed(JobQueue, queue)
          )
        )
    }))
  },
  {
    name: "JobWorker.layer, with a job that runs",
    open: Effect.gen(function*() {
      const { client, queue } = yield* openQueue(url)
      // Each goes back when its worker closes, and runs again on the next one.
      const jobs = Array.from({ length: 10 }, (_, i) => jobOn(`running ${i}`))
      for (const job of jobs) yield* queue.enqueue(job, "")
      const cycle = (number: number) =>
        Effect.gen(function*() {
          const started = yield* Deferred.make<void>()
          const handler = jobs[number % 10]!.handler(() =>
            Effect.andThen(Deferred.succeed(started, undefined), Effect.never)
          )
          const worker = JobWorker.layer([handler], { shutdown: 0 })
          yield* buildAnew(Layer.provide(worker, Layer.succeed(JobQueue, queue)))
          yield* Deferred.await(started)
        })
      const held = Effect.map(Effect.forEach(jobs, (job) => allWait(queue, job.queue, 1)), (each) => each.flat())
      return { client, cycle, held }
    })
  },
  {
    name: "events",
    open: Effect.map(openQueue(url), ({ client, queue }) => ({
      client,
      cycle: (number) =>
        Effect.andThen(
          queue.eventsScoped(`events ${number % 4}`),
          Effect.forkScoped(Stream.runDrain(queue.events(`events ${number % 3}`)), { startImmediately: true })
        )
    }))
  },
  {
    name: "result, of a job that does not end",
    open: Effect.gen(function*() {
      const { client, queue } = yield* openQueue(url)
      const id = yield* queue.enqueue(Work, "", { delay: "1 hour" })
      return { client, cycle: () => Effect.flip(queue.result(Work, id, { within: "2 millis" })) }
    })
  },
  {
    name: "take, of jobs that are given back",
    open: Effect.gen(function*() {
      const { client, queue } = yield* openQueue(url)
      const job = jobOn("taken")
      yield* queue.enqueueAll(job, Array.from({ length: 20 }, String))
      return {
        client,
        held: allWait(queue, "taken", 20),
        cycle: (number: number) =>
          number % 2 === 0 ? queue.take(job, 2) : queue.take(jobOn("none"), 1, { wait: "2 millis" })
      }
    })
  }
]
