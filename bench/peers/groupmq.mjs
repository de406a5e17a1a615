/** groupmq, with its default options. It has groups only, one job of each at a time: 200 of them take turns. */
import { Queue, Worker } from "groupmq"
import { Redis } from "ioredis"
import { fromCallers } from "../support/callers.ts"

/** @type {import("../support/case.ts").Open<import("../support/jobs.ts").QueueAdapter>} */
export const open = async (port) => {
  const redis = new Redis({ port, maxRetriesPerRequest: null })
  const queue = new Queue({ redis, namespace: "bench" })
  let added = 0
  const add = (data) => queue.add({ groupId: `group-${added++ % 200}`, data })
  let worker
  return {
    enqueue: (callers, next) => fromCallers(callers, next, add),
    // It has no call for a batch.
    enqueueBatches: (next) => fromCallers(1, next, (emails) => Promise.all(emails.map(add))),
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
      await queue.close()
      redis.disconnect()
    }
  }
}
