/**
 * Sends a million jobs through one queue, and shows that what they leave behind is what retention says: `npm run soak`.
 * Fails when this process or the server ends with more memory than it had once everything was warm. `--smoke`, `--json`.
 */
import type { JobQueueOptions } from "effect-redis-kit"
import type { Redis } from "ioredis"
import { parseArgs } from "node:util"
import { comesTrue, counted, pause } from "./support/callers.ts"
import { batch, batchSize, fail } from "./support/jobs.ts"
import { onOwnServer } from "./support/ownServer.ts"
import { infoNumber } from "./support/probe.ts"
import { aligned, grouped } from "./support/report.ts"

const { values: options } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    smoke: { type: "boolean", default: false }
  }
})
const rounds = 10
const perRound = options.smoke ? 2000 : 100_000
/** Little is kept, so that all of it is there after the first round. */
const retention = { retention: { count: 1000 }, eventBatches: 100 }
/** By how much the last round may end above the first, in MB. What was once resident, V8 gives back late or never. */
const allowance = { redis: 1, heap: 4, resident: 64 }
const withDefaults = options.smoke ? 5000 : 200_000

/** Megabytes, once the garbage has been collected and connections have given back their buffers. */
const memory = async (control: Redis) => {
  await pause(500)
  globalThis.gc!()
  const { heapUsed, rss } = process.memoryUsage()
  const redis = await infoNumber(control, "memory", "used_memory")
  return { redis: redis / 2 ** 20, heap: heapUsed / 2 ** 20, resident: rss / 2 ** 20 }
}

interface Sample extends Readonly<Record<keyof typeof allowance, number>> {
  readonly jobs: number
  readonly kept: number
}

/** Our queue with a worker: `send` sends so many jobs through it, produced and consumed at once. */
const openWorking = async (port: number, options?: JobQueueOptions) => {
  // It can only be imported once the library was built.
  const { open } = await import("./ours/queue.ts")
  const queue = await open(port, options)
  let runs = 0
  let made = 0
  await queue.work(100, () => runs++)
  const send = async (count: number) => {
    made += count
    await queue.enqueueBatches(counted(Math.ceil(count / batchSize), (number) => batch(number, count)))
    const done = await comesTrue(async () => runs >= made && await queue.left() === 0, 300_000)
    if (!done || runs !== made) fail(`${runs} runs of ${made} jobs`)
  }
  return { send, kept: queue.kept, close: queue.close }
}

const soak = async (port: number, control: Redis): Promise<ReadonlyArray<Sample>> => {
  const { close, kept, send } = await openWorking(port, retention)
  const samples: Array<Sample> = []
  const sample = async (jobs: number) => {
    samples.push({ jobs, kept: await kept(), ...await memory(control) })
    console.error(JSON.stringify(samples.at(-1)))
  }
  await sample(0)
  for (let round = 1; round <= rounds; round++) {
    await send(perRound)
    await sample(round * perRound)
  }
  await close()
  return samples
}

/** What the server keeps of a job by default: bytes for each, all together and by the end of the key's name. */
const keep = async (port: number, control: Redis) => {
  await control.flushall()
  const before = await infoNumber(control, "memory", "used_memory")
  const { close, kept, send } = await openWorking(port)
  await send(withDefaults)
  const outcomes = await kept()
  await close()
  await pause(500)
  const bytes = (all: number) => Math.round(all / withDefaults)
  const all = bytes(await infoNumber(control, "memory", "used_memory") - before)
  const byKey: Record<string, number> = {}
  for (const key of await control.keys("*")) {
    byKey[key.slice(key.lastIndexOf(":") + 1)] = bytes((await control.memory("USAGE", key, "SAMPLES", 1000))!)
  }
  return { jobs: withDefaults, outcomes, all, byKey }
}
type Kept = Awaited<ReturnType<typeof keep>>

const report = (samples: ReadonlyArray<Sample>, { all, byKey, jobs, outcomes }: Kept): string =>
  [
    `Megabytes, with ${
      grouped(retention.retention.count)
    } outcomes and ${retention.eventBatches} batches of events kept:`,
    ...aligned([
      ["jobs done", "outcomes", "Redis used", "heap used", "resident", ""],
      ...samples.map((sample) =>
        [sample.jobs, sample.kept, sample.redis, sample.heap, sample.resident].map(grouped).concat("")
      )
    ]),
    "",
    `With default options, ${grouped(jobs)} jobs left ${grouped(outcomes)} outcomes, and ${all} bytes a job:`,
    ...aligned(Object.entries(byKey).map(([key, bytes]) => [key, grouped(bytes), ""])),
    ""
  ].join("\n")

if (globalThis.gc === undefined) {
  console.error("It has to collect garbage: run it as `npm run soak`, or with node --expose-gc")
  process.exit(2)
}
await onOwnServer(options, async ({ control, port }) => {
  const samples = await soak(port, control)
  const kept = await keep(port, control)
  const [, warm] = samples
  const last = samples.at(-1)!
  const grown = Object.entries(allowance).map(([what, allowed]) => {
    const by = last[what as keyof typeof allowance] - warm![what as keyof typeof allowance]
    return { what, by: Number(by.toFixed(2)), allowed }
  })
  if (options.json) { for (const line of [...samples, { grown }, { kept }]) console.log(JSON.stringify(line)) }
  else console.log(report(samples, kept))
  for (const { allowed, by, what } of grown) {
    const line = `${what}: ${by} MB above the first round, ${allowed} allowed`
    if (by > allowed) {
      console.error(`FAILED ${line}`)
      process.exitCode = 1
    } else if (!options.json) console.log(line)
  }
})
