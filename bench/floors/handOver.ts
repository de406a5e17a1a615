/** The shortest way of a job through Redis: LPUSH wakes a BRPOP. Whoever dies loses it. */
import { Redis } from "ioredis"
import { fromCallers } from "../support/callers.ts"
import type { Open } from "../support/case.ts"
import type { QueueAdapter } from "../support/jobs.ts"

const list = "floor"

export const open: Open<QueueAdapter> = (port) => {
  const producer = new Redis({ port })
  const worker = new Redis({ port })
  const closing = new AbortController()

  return Promise.resolve({
    enqueue: (callers, next) => fromCallers(callers, next, (email) => producer.lpush(list, JSON.stringify(email))),
    enqueueBatches: (next) =>
      fromCallers(1, next, (emails) => producer.lpush(list, ...emails.map((email) => JSON.stringify(email)))),
    work: async (_concurrency, onJob) => {
      const one = async () => {
        const popped = await worker.brpop(list, 0)
        if (popped !== null) onJob(JSON.parse(popped[1]))
      }
      void (async () => {
        // A client that is closed under its blocking command rejects it.
        while (!closing.signal.aborted) {
          await one().catch((error: unknown) => closing.signal.aborted || Promise.reject(error))
        }
      })()
    },
    left: () => producer.llen(list),
    close: async () => {
      closing.abort()
      worker.disconnect()
      await producer.quit()
    }
  })
}
