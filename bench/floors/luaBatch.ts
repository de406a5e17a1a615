/**
 * What Redis can do for a queue at most: one script acknowledges a batch and claims the next. It has no lease, no
 * attempts, no delays, no events and no results.
 */
import { Redis } from "ioredis"
import { fromCallers, pause } from "../support/callers.ts"
import type { Open } from "../support/case.ts"
import type { QueueAdapter } from "../support/jobs.ts"

// Three commands for each job. Variadic ones would be faster, but this is the floor that the targets are set by.
const step = `
for i = 2, #ARGV do redis.call("HDEL", KEYS[2], ARGV[i]) end
local payloads = redis.call("RPOP", KEYS[1], ARGV[1])
if not payloads then return {} end
local claimed = {}
for i, payload in ipairs(payloads) do
  local id = redis.call("INCR", KEYS[3])
  redis.call("HSET", KEYS[2], id, payload)
  claimed[2 * i - 1] = id
  claimed[2 * i] = payload
end
return claimed
`

const waiting = "{floor}:waiting"
const active = "{floor}:active"
const lastId = "{floor}:id"

export const open: Open<QueueAdapter> = async (port) => {
  const producer = new Redis({ port, enableAutoPipelining: true })
  const worker = new Redis({ port })
  let working: Promise<void> | undefined
  const closing = new AbortController()

  const work = async (concurrency: number, onJob: (email: any) => void) => {
    const sha = await worker.script("LOAD", step) as string
    let done: ReadonlyArray<number> = []
    while (!closing.signal.aborted) {
      const claimed = await worker.evalsha(sha, 3, waiting, active, lastId, concurrency, ...done) as ReadonlyArray<any>
      const ids: Array<number> = []
      for (let i = 0; i < claimed.length; i += 2) {
        onJob(JSON.parse(claimed[i + 1]))
        ids.push(claimed[i])
      }
      done = ids
      if (claimed.length === 0) await pause(1)
    }
  }

  return {
    enqueue: (callers, next) => fromCallers(callers, next, (email) => producer.lpush(waiting, JSON.stringify(email))),
    enqueueBatches: (next) =>
      fromCallers(1, next, (emails) => producer.lpush(waiting, ...emails.map((email) => JSON.stringify(email)))),
    work: async (concurrency, onJob) => {
      working = work(concurrency, onJob)
    },
    left: async () => await producer.llen(waiting) + await producer.hlen(active),
    close: async () => {
      closing.abort()
      await working
      await Promise.all([producer.quit(), worker.quit()])
    }
  }
}
