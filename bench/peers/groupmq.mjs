/**
 * groupmq, with its default options. It has groups only, one job of each at a time. It is fastest with as many groups as
 * jobs run at once: with more, it waits 50 ms and longer between them.
 */
import { Queue, Worker } from "groupmq"
import { Redis } from "ioredis"
import { fromCallers } from "../support/callers.ts"
import { batchSize } from "../support/jobs.ts"

/** @type {import("../support/case.ts").Open<import("../support/jobs.ts").QueueAdapter>} */
export const open = async (port, task) => {
  const redis = new Redis({ port, maxRetriesPerRequest: null })
  const queue = new Queue({ redis, namespace: "bench" })
  // It has no call for a batch, but gathers what is added at once if it is told to.
  const gathering = new Queue({ redis, namespace: "bench", autoBatch: { size: batchSize } })
  // `queue.drain.c10` runs 10 at once.
  const groups = Number(/\.c(\d+)$/.exec(task.case)?.[1] ?? 100)
  let added = 0
  const next = (data) => ({ groupId: `group-${added++ % groups}`, data })
  let worker
  return {
    enqueue: (callers, emails) => fromCallers(callers, emails, (email) => queue.add(next(email))),
    enqueueBatches: (batches) =>
      fromCallers(1, batches, (emails) => Promise.all(emails.map((email) => gathering.add(next(email))))),
    work: async (concurrency, onJob) => {
      worker = new Worker({ queue, concurrency, handler: async (job) => onJob(job.data) })
      worker.on("error", (error) => console.error(error))
      void worker.run()
    },
    left: async () => {
      const { active, delayed, waiting } = await queue.getJobCounts()
      return active + delayed + waiting
    },
    close: async () => {
      await worker?.close()
      await gathering.close()
      await queue.close()
      redis.disconnect()
    }
  }
}
