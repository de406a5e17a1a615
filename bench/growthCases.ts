/** What a job costs as queues, what is active, processes and queues grow: the points of the curves, and how to measure one. */
import type { Redis } from "ioredis"
import { comesTrue, microsNow, percentile } from "./support/callers.ts"
import { type Elsewhere, openElsewhere } from "./support/elsewhere.ts"
import { fail } from "./support/jobs.ts"
import { makeMeter, type Meter } from "./support/probe.ts"

/** A point: how much there is of everything. */
export interface Point {
  /** How many jobs wait all the while. */
  readonly waiting: number
  /** How many jobs another process holds all the while. */
  readonly active: number
  readonly processes: number
  readonly queues: number
  /** How many jobs of each queue a process runs at once. */
  readonly concurrency: number
  /** How many jobs are enqueued and worked off in each turn. */
  readonly slice: number
  /** As many turns go before, unmeasured. */
  readonly turns: number
  /** How many jobs are then sent to idle workers, one by one, to see how soon they start; 0 for none. */
  readonly pickups: number
}

/** A curve: what one of them does when it grows. */
export interface Curve {
  readonly name: string
  readonly title: string
  /** What the x axis shows. */
  readonly axis: string
  readonly about: string
  readonly xs: ReadonlyArray<number>
  readonly smokeXs: ReadonlyArray<number>
  readonly at: (x: number, smoke: boolean) => Point
}

const one = { waiting: 0, active: 0, processes: 1, queues: 1, concurrency: 100, pickups: 0 }
// Small enough for the lowest level to stay where it is, and always the same, so that nothing else differs.
const within = (smoke: boolean) => smoke ? { ...one, slice: 500, turns: 2 } : { ...one, slice: 5000, turns: 10 }
const through = (smoke: boolean) => smoke ? { ...one, slice: 2000, turns: 1 } : { ...one, slice: 200_000, turns: 1 }

export const curves: ReadonlyArray<Curve> = [
  {
    name: "waiting",
    title: "Jobs that wait in one queue",
    axis: "jobs waiting",
    about: "one queue in which so many jobs wait all the while; one worker, concurrency 100",
    xs: [10_000, 100_000, 1_000_000],
    smokeXs: [1000, 10_000],
    at: (waiting, smoke) => ({ ...within(smoke), waiting })
  },
  {
    name: "active",
    title: "Jobs of one queue that are active elsewhere",
    axis: "jobs active",
    about: "one queue of which another process holds so many jobs, and 100,000 wait; one worker, concurrency 100",
    xs: [100, 1000, 10_000],
    smokeXs: [10, 100],
    at: (active, smoke) => ({ ...within(smoke), waiting: smoke ? 1000 : 100_000, active })
  },
  {
    name: "processes",
    title: "Processes on one queue",
    axis: "processes",
    about: "so many processes enqueue to one queue, and then work it off with concurrency 100 each",
    xs: [1, 2, 4, 8],
    smokeXs: [1, 2],
    at: (processes, smoke) => ({ ...through(smoke), processes })
  },
  {
    name: "queues",
    title: "Queues in one process",
    axis: "queues",
    about: "one process that enqueues to so many queues, and then works them off with concurrency 10 (the default) " +
      "each; pickup: from enqueue in another process to the start of the handler, in idle workers",
    xs: [1, 10, 50, 200],
    smokeXs: [1, 10],
    at: (queues, smoke) => ({ ...through(smoke), queues, concurrency: 10, pickups: smoke ? 20 : 300 })
  }
]

/** What a point yields, by figure: `drain.rate`, `enqueue.redis`, ... */
export type Values = Readonly<Record<string, number>>

const longestTurnMillis = 120_000
const settleMillis = 30_000

/** Measures a point on an empty server. */
export const measurePoint = async (control: Redis, port: number, point: Point): Promise<Values> => {
  const aside = await openElsewhere(port)
  const team = await Promise.all(Array.from({ length: point.processes }, () => openElsewhere(port)))
  const everyone = <A>(ask: (process: Elsewhere) => Promise<A>) => Promise.all(team.map(ask))
  const sumOf = async (what: "runs" | "cpu") =>
    (await everyone((process) => process.progress())).reduce((sum, progress) => sum + progress[what], 0)
  const queues = Array.from({ length: point.queues }, (_, i) => `growth-${i}`)
  const toDo = async () => (await aside.counts(queues)).waiting - point.waiting
  let made = 0

  const enqueue = async () => {
    const share = Math.floor((point.slice - await toDo()) / team.length / queues.length)
    await everyone(async (process) => {
      for (const queue of queues) await process.fill(queue, share)
    })
    const n = share * team.length * queues.length
    made += n
    return { n }
  }
  /** Works off what is above the level, or a little more, until all of that is acknowledged. */
  const drain = async () => {
    const before = await sumOf("runs")
    const count = await toDo()
    const start = microsNow()
    await everyone((process) => process.setWorking(true))
    const done = await comesTrue(async () => await sumOf("runs") >= before + count, longestTurnMillis)
    await everyone((process) => process.setWorking(false))
    if (!done) fail(`${await sumOf("runs") - before} of ${count} jobs ran`)
    const isSettled = async () => (await aside.counts(queues)).active === point.active
    if (!await comesTrue(isSettled, settleMillis)) fail("what has run is not acknowledged")
    const all = await everyone((process) => process.progress())
    return {
      n: await sumOf("runs") - before,
      seconds: (Math.max(...all.map(({ lastAt }) => lastAt)) - start) / 1e6
    }
  }

  await everyone((process) => process.work(queues, point.concurrency))
  await aside.fill(queues[0]!, point.waiting + point.active)
  await aside.take(queues[0]!, point.active)
  const turns = async (): Promise<Values> => {
    const meters = { enqueue: makeMeter(control, () => sumOf("cpu")), drain: makeMeter(control, () => sumOf("cpu")) }
    for (let turn = 0; turn < point.turns; turn++) {
      await meters.enqueue.add(enqueue)
      await meters.drain.add(drain)
    }
    return { ...valuesOf("enqueue", meters.enqueue), ...valuesOf("drain", meters.drain) }
  }
  // The first time is for the compiler.
  await turns()
  const values = await turns()
  if (made - await sumOf("runs") !== await toDo()) fail("not every job ran once")
  const waits = point.pickups > 0 ? await pickUp(aside, team[0]!, queues, point.pickups) : {}
  await Promise.all([aside, ...team].map((process) => process.close()))
  return { ...values, ...waits }
}

const valuesOf = (work: string, meter: Meter): Values => {
  const { clientCpu, commands, n, redisCpu, seconds } = meter.cost()
  return {
    [`${work}.rate`]: Math.round(n / seconds),
    [`${work}.client`]: clientCpu,
    [`${work}.redis`]: redisCpu,
    [`${work}.commands`]: commands
  }
}

const pickUp = async (producer: Elsewhere, worker: Elsewhere, queues: ReadonlyArray<string>, count: number) => {
  await worker.setWorking(true)
  await producer.trickle(queues, count)
  let waits: ReadonlyArray<number> = []
  const allRun = async () => (waits = await worker.waits()).length === count
  if (!await comesTrue(allRun, settleMillis)) fail(`${waits.length} of ${count} jobs were picked up`)
  return { "pickup.p50": Math.round(percentile(waits, 0.5)), "pickup.p99": Math.round(percentile(waits, 0.99)) }
}
