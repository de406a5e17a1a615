/** bee-queue, with its default options but for events, which nobody listens to here: its README asks to turn them off. */
import BeeQueue from "bee-queue"
import { fromCallers } from "../support/callers.ts"

/** @type {import("../support/case.ts").Open<import("../support/jobs.ts").QueueAdapter>} */
export const open = async (port) => {
  const settings = { redis: { host: "127.0.0.1", port }, getEvents: false, storeJobs: false }
  const queue = new BeeQueue("bench", { ...settings, isWorker: false })
  await queue.ready()
  let worker
  return {
    enqueue: (callers, next) => fromCallers(callers, next, (email) => queue.createJob(email).save()),
    enqueueBatches: (next) =>
      fromCallers(1, next, async (emails) => {
        const errors = await queue.saveAll(emails.map((email) => queue.createJob(email)))
        if (errors.size > 0) throw new Error(`${errors.size} jobs were not saved`)
      }),
    work: async (concurrency, onJob) => {
      worker = new BeeQueue("bench", settings)
      await worker.ready()
      worker.process(concurrency, async (job) => onJob(job.data))
    },
    left: async () => {
      const { active, delayed, waiting } = await queue.checkHealth()
      return active + delayed + waiting
    },
    close: async () => {
      await worker?.close()
      await queue.close()
    }
  }
}
