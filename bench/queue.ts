/** Queues: enqueue, drain, both at once, the way to an idle worker, and what a job costs Redis. */
import { fork } from "node:child_process"
import { once } from "node:events"
import { comesTrue, counted, forSeconds, microsNow, pause, percentile } from "./support/callers.ts"
import { type Case, openAdapter, rate, type Task, withAdapter } from "./support/case.ts"
import { batch, batchSize, email, fail, fill, type QueueAdapter, tally } from "./support/jobs.ts"

const drainMillis = 200_000

const peers = {
  "bullmq": "peers/bullmq.mjs",
  "bee-queue": "peers/beeQueue.mjs",
  "groupmq": "peers/groupmq.mjs",
  "effect-persisted-queue": "peers/effectPersistedQueue.mjs"
}
const onLuaBatches = { ours: "ours/queue.ts", floor: "floors/luaBatch.ts", ...peers }
const onHandOver = { ours: "ours/queue.ts", floor: "floors/handOver.ts", ...peers }

const enqueueCase = (
  id: string,
  about: string,
  enqueue: (queue: QueueAdapter, seconds: number) => Promise<number>
): Case => ({
  name: id,
  figures: [{ id, unit: "jobs/s", better: "more" }],
  about,
  isRate: true,
  size: 0,
  smokeSize: 0,
  systems: onLuaBatches,
  run: withAdapter<QueueAdapter>(onLuaBatches, async (queue, { seconds }, probe) => {
    const warmUp = 200
    await queue.enqueue(10, counted(warmUp, email))
    const cost = await probe.cost(async () => ({ n: await enqueue(queue, seconds) }))
    const left = await queue.left()
    if (left !== warmUp + cost.n) fail(`${left} jobs are there, not ${warmUp + cost.n}`)
    return rate(id, cost)
  })
})

const bulk = enqueueCase(
  "queue.enqueue.bulk",
  "4 callers, batches of 1,000; floor: one LPUSH with 1,000 values",
  async (queue, seconds) => {
    const same = batch(0)
    const source = forSeconds(seconds, () => same, 1)
    await Promise.all(Array.from({ length: 4 }, () => queue.enqueueBatches(source.next)))
    return source.made() * batchSize
  }
)

const callers = enqueueCase(
  "queue.enqueue.c50",
  "50 callers, one job each; floor: LPUSH with ioredis' auto-pipelining",
  async (queue, seconds) => {
    const source = forSeconds(seconds, email)
    await queue.enqueue(50, source.next)
    return source.made()
  }
)

const drain = (concurrency: number, size: number): Case => {
  const id = `queue.drain.c${concurrency}`
  return {
    name: id,
    figures: [{ id, unit: "jobs/s", better: "more" }],
    about:
      `from the start of a worker that runs ${concurrency} at once to the last job's handler; floor: a script that ` +
      `acknowledges up to ${concurrency} and claims up to ${concurrency}, with three commands for each`,
    isRate: true,
    size,
    smokeSize: Math.min(size / 10, 2000),
    systems: onLuaBatches,
    run: withAdapter<QueueAdapter>(onLuaBatches, async (queue, { size }, probe) => {
      await fill(queue, size)
      const left = await queue.left()
      if (left !== size) fail(`${left} jobs are there, not ${size}`)
      const jobs = tally()
      const cost = await probe.cost(async () => {
        const start = performance.now()
        await queue.work(concurrency, jobs.onJob)
        return { n: size, seconds: (await jobs.reaches(size, drainMillis) - start) / 1000 }
      })
      await jobs.check(queue, size)
      return rate(id, cost)
    })
  }
}

const combined: Case = {
  name: "queue.combined",
  figures: [{ id: "queue.combined", unit: "jobs/s", better: "more" }],
  about: "100 callers enqueue while a worker in the same process runs 100 at once; floor: LPUSH and the script",
  isRate: true,
  size: 0,
  smokeSize: 0,
  systems: onLuaBatches,
  run: withAdapter<QueueAdapter>(onLuaBatches, async (queue, { seconds }, probe) => {
    const jobs = tally()
    await queue.work(100, jobs.onJob)
    await pause(200)
    const cost = await probe.cost(async () => {
      const start = performance.now()
      const source = forSeconds(seconds, email)
      await queue.enqueue(100, source.next)
      return { n: source.made(), seconds: (await jobs.reaches(source.made(), drainMillis) - start) / 1000 }
    })
    await jobs.check(queue, cost.n)
    return rate("queue.combined", cost)
  })
}

const pickup: Case = {
  name: "queue.pickup",
  figures: [
    { id: "queue.pickup.p50", unit: "us", better: "less" },
    { id: "queue.pickup.p99", unit: "us", better: "less" }
  ],
  about: "from before enqueue in another process to the handler's start, in an idle worker that runs one at once, " +
    "a job each 5 to 15 ms; floor: LPUSH to BRPOP",
  isRate: false,
  size: 500,
  smokeSize: 30,
  systems: onHandOver,
  run: withAdapter<QueueAdapter>(onHandOver, async (queue, task, probe) => {
    const waits: Array<number> = []
    let next = Promise.withResolvers<void>()
    await queue.work(1, ({ n }) => {
      waits.push(microsNow() - n)
      next.resolve()
    })
    const producer = fork(new URL(import.meta.url), ["producer", JSON.stringify(task)])
    await once(producer, "message")
    await pause(300)
    const warmUp = Math.min(50, task.size / 3)
    // Who polls once a second has few samples, and gets no more time than others.
    const end = performance.now() + task.size * 25
    const cost = await probe.cost(async () => {
      while (waits.length < task.size + warmUp && performance.now() < end) {
        next = Promise.withResolvers()
        producer.send("enqueue")
        const late = setTimeout(() => next.reject(new Error("a job was not picked up within 10 s")), 10_000)
        await next.promise
        clearTimeout(late)
        await pause(5 + Math.random() * 10)
      }
      return { n: waits.length }
    })
    producer.disconnect()
    if (!await comesTrue(async () => await queue.left() === 0, 5000)) fail("jobs are left")
    if (waits.length !== cost.n) fail(`${waits.length} runs of ${cost.n} jobs`)
    const measured = waits.slice(Math.min(warmUp, waits.length >> 2))
    return {
      values: {
        "queue.pickup.p50": Math.round(percentile(measured, 0.5)),
        "queue.pickup.p99": Math.round(percentile(measured, 0.99))
      },
      ...cost,
      n: measured.length
    }
  })
}

const memory: Case = {
  name: "queue.memory.waiting",
  figures: [{ id: "queue.memory.waiting", unit: "bytes", better: "less" }],
  about: "Redis memory per waiting job, all clients gone; floor: a list of the payloads",
  isRate: false,
  size: 100_000,
  smokeSize: 5000,
  systems: onLuaBatches,
  run: async (task, probe) => {
    const before = await probe.usedMemory()
    const queue = await openAdapter<QueueAdapter>({ systems: onLuaBatches }, task)
    const cost = await probe.cost(async () => {
      await fill(queue, task.size)
      return { n: task.size }
    })
    const left = await queue.left()
    if (left !== task.size) fail(`${left} jobs are there, not ${task.size}`)
    await queue.close()
    // The server frees a client's buffers, and finishes to grow its tables, in its own time.
    await pause(500)
    const bytes = Math.round((await probe.usedMemory() - before) / task.size)
    return { ...cost, values: { "queue.memory.waiting": bytes } }
  }
}

const redisCpu: Case = {
  name: "queue.rediscpu",
  figures: [{ id: "queue.rediscpu", unit: "us", better: "less" }],
  about: "Redis CPU per job, enqueued in batches of 1,000 and worked off 100 at once; floor: LPUSH and the script",
  isRate: false,
  size: 100_000,
  smokeSize: 2000,
  systems: onLuaBatches,
  run: withAdapter<QueueAdapter>(onLuaBatches, async (queue, { size }, probe) => {
    const jobs = tally()
    const cost = await probe.cost(async () => {
      await fill(queue, size)
      await queue.work(100, jobs.onJob)
      await jobs.reaches(size, drainMillis)
      await jobs.check(queue, size)
      return { n: size }
    })
    return { ...cost, values: { "queue.rediscpu": cost.redisCpu } }
  })
}

export const queueCases: ReadonlyArray<Case> = [
  bulk,
  callers,
  drain(1, 5000),
  drain(10, 20_000),
  drain(100, 200_000),
  combined,
  pickup,
  memory,
  redisCpu
]

// The producer of `pickup`, which is a process of its own so that no wake-up within the process hides a poll.
if (process.argv[2] === "producer") {
  const task = JSON.parse(process.argv[3]!) as Task
  const queue = await openAdapter<QueueAdapter>({ systems: onHandOver }, task)
  let made = 0
  process.on("message", () => void queue.enqueue(1, counted(1, () => email(made++, microsNow()))))
  process.on("disconnect", () => process.exit())
  process.send!("ready")
}
