/** The jobs of the measurements, the queue that they go through, and the proof that each ran once. */
import { comesTrue, counted } from "./callers.ts"

/** What every job carries: 200 bytes as JSON. */
export interface Email {
  /** Its number, in eight digits. */
  readonly id: string
  readonly user: string
  readonly kind: string
  readonly at: number
  /** When it was enqueued, in microseconds of the machine's monotonic clock, where that matters. */
  readonly n: number
  readonly pad: string
  readonly ok: boolean
}

/** A queue as the measurements use it. */
export interface QueueAdapter {
  /** Enqueues what `next` yields, one by one, from so many callers at once, until it yields nothing. */
  readonly enqueue: (callers: number, next: () => Email | undefined) => Promise<unknown>
  /** Enqueues the batches that `next` yields, one after the other. */
  readonly enqueueBatches: (next: () => ReadonlyArray<Email> | undefined) => Promise<unknown>
  /** Works, until `close`. */
  readonly work: (concurrency: number, onJob: (email: Email) => void) => Promise<unknown>
  /** How many jobs have not been acknowledged, as the server has it. */
  readonly left: () => Promise<number>
  readonly close: () => Promise<unknown>
}

/** How many jobs go with one call. */
export const batchSize = 1000
const pad = "x".repeat(90)

/** The job number `i`. */
export const email = (i: number, n = 12345.678): Email => ({
  id: String(i).padStart(8, "0"),
  user: "user-000042",
  kind: "email.send",
  at: 1760000000000,
  n,
  pad,
  ok: true
})

/** The jobs of batch number `number`, of all that there are. */
export const batch = (number: number, total = Infinity): ReadonlyArray<Email> =>
  Array.from(
    { length: Math.min(batchSize, total - number * batchSize) },
    (_, i) => email(number * batchSize + i)
  )

/** Enqueues `count` jobs. */
export const fill = (queue: QueueAdapter, count: number) =>
  queue.enqueueBatches(counted(Math.ceil(count / batchSize), (number) => batch(number, count)))

export const fail = (problem: string): never => {
  throw new Error(problem)
}

/** Counts runs, and makes sure that there was one of each job. */
export const tally = () => {
  let runs = 0
  let expected = Infinity
  let lastAt = 0
  const times: Array<number> = []
  const complete = Promise.withResolvers<void>()
  return {
    onJob: ({ id }: Email) => {
      const number = Number(id)
      times[number] = (times[number] ?? 0) + 1
      lastAt = performance.now()
      if (++runs >= expected) complete.resolve()
    },
    /** Waits until `count` jobs have run, and tells when the last one did. */
    reaches: async (count: number, withinMillis: number): Promise<number> => {
      expected = count
      if (runs >= expected) complete.resolve()
      const late = setTimeout(
        () => complete.reject(new Error(`${runs} of ${count} jobs ran within ${withinMillis} ms`)),
        withinMillis
      )
      await complete.promise
      clearTimeout(late)
      return lastAt
    },
    /** Throws unless all is acknowledged, and each of `count` jobs ran once. */
    check: async (queue: QueueAdapter, count: number) => {
      if (!await comesTrue(async () => await queue.left() === 0, 5000)) fail(`${await queue.left()} jobs are left`)
      for (let i = 0; i < count; i++) if (times[i] !== 1) fail(`job ${i} ran ${times[i] ?? 0} times`)
      if (runs !== count) fail(`${runs} runs of ${count} jobs`)
    }
  }
}
