/** BullMQ, with its default options: finished jobs are kept. */
import { Queue, Worker } from "bullmq"
import { fromCallers } from "../support/callers.ts"

/** @type {import("../support/case.ts").Open<import("../support/jobs.ts").QueueAdapter>} */
export const open = async (port) => {
  const connection = { host: "127.0.0.1", port }
  const queue = new Queue("bench", { connection })
  await queue.waitUntilReady()
  let worker
  return {
    enqueue: (callers, next) => fromCallers(callers, next, (email) => queue.add("send-email", email)),
    enqueueBatches: (next) =>
      fromCallers(1, next, (emails) => queue.addBulk(emails.map((data) => ({ name: "send-email", data })))),
    work: async (concurrency, onJob) => {
      worker = new Worker("bench", async (job) => onJob(job.data), { connection, concurrency })
      worker.on("error", (error) => console.error(error))
      await worker.waitUntilReady()
    },
    left: async () => {
      const counts = await queue.getJobCounts("wait", "active", "prioritized", "delayed")
      return Object.values(counts).reduce((sum, count) => sum + count, 0)
    },
    close: async () => {
      await worker?.close()
      await queue.close()
    }
  }
}
