/**
 * Shows that a queue's work spreads over a Cluster's masters with its partitions: `npm run partitions`. What limits a queue
 * at last is the master that works most for it; its CPU for each job is what partitions take down. Here, masters, producers
 * and workers share two cores, so that jobs per second show less of it. `--smoke`, `--json`.
 */
import { Effect, ManagedRuntime, Schema } from "effect"
import { parseArgs } from "node:util"
import { RedisCluster } from "../test/support/redisCluster.ts"
import type { RedisServer } from "../test/support/redisServer.ts"
import { describeMachine, requireBuild, versions } from "./support/preparation.ts"
import { aligned, grouped, header } from "./support/report.ts"

const { values: options } = parseArgs({
  options: { json: { type: "boolean", default: false }, smoke: { type: "boolean", default: false } }
})
const rounds = options.smoke ? 1 : 3
const jobs = options.smoke ? 5000 : 150_000
const partitionCounts = [1, 2, 4, 8, 16]
const batchSize = 500

/** Seconds of CPU that a server has used. */
const cpuOf = (server: RedisServer): Effect.Effect<number> =>
  Effect.map(server.cli("INFO", "cpu"), (info) =>
    ["user", "sys"].reduce(
      (sum, kind) => sum + Number(new RegExp(`^used_cpu_${kind}:([\\d.]+)`, "m").exec(String(info))?.[1]),
      0
    ))

/** Enqueues all jobs in batches, eight calls at a time, and works them off meanwhile. */
const work = async (url: string, partitions: number, round: number): Promise<number> => {
  // It can only be imported once the library was built.
  const { Job, JobQueue, JobWorker, RedisClient } = await import("effect-redis-kit")
  const { Layer } = await import("effect")
  const Count = Job.make("count", {
    queue: `hot ${partitions} ${round}`,
    partitions,
    payload: Schema.Struct({ n: Schema.Finite, text: Schema.String })
  })
  const done = { runs: 0 }
  const worker = JobWorker.layer([Count.handler(() => Effect.sync(() => void done.runs++))], { concurrency: 100 })
  const runtime = ManagedRuntime.make(
    worker.pipe(Layer.provideMerge(JobQueue.layer()), Layer.provide(RedisClient.layer({ url })))
  )
  const text = "x".repeat(180)
  const start = performance.now()
  await runtime.runPromise(Effect.gen(function*() {
    const queue = yield* JobQueue
    yield* Effect.forEach(
      Array.from({ length: jobs / batchSize }, (_, i) => i),
      (batch) =>
        queue.enqueueAll(Count, Array.from({ length: batchSize }, (_, i) => ({ n: batch * batchSize + i, text }))),
      { concurrency: 8, discard: true }
    )
    while (done.runs < jobs) yield* Effect.sleep("5 millis")
    // The last of them are still to be reported.
    let counts = yield* queue.counts(Count)
    while (counts.active > 0) counts = yield* queue.counts(Count)
    if (done.runs !== jobs || counts.waiting + counts.active + counts.delayed > 0) {
      return yield* Effect.die(`${done.runs} runs of ${jobs} jobs, ${JSON.stringify(counts)} left`)
    }
  }))
  const seconds = (performance.now() - start) / 1000
  await runtime.dispose()
  return seconds
}

interface Row {
  readonly partitions: number
  readonly perSecond: number
  /** Microseconds of CPU for each job: of the master that worked most, and of all. */
  readonly busiest: number
  readonly all: number
}

const measure = Effect.fnUntraced(function*(cluster: RedisCluster, partitions: number, round: number) {
  const before = yield* Effect.forEach(cluster.nodes, cpuOf)
  const seconds = yield* Effect.promise(() => work(cluster.url, partitions, round))
  const spent = (yield* Effect.forEach(cluster.nodes, cpuOf)).map((after, i) => 1e6 * (after - before[i]!) / jobs)
  yield* Effect.forEach(cluster.nodes, (node) => node.cli("FLUSHALL"), { discard: true })
  return {
    partitions,
    perSecond: jobs / seconds,
    busiest: Math.max(...spent),
    all: spent.reduce((sum, one) => sum + one, 0)
  } satisfies Row
})

const medianBy = (rows: ReadonlyArray<Row>, of: (row: Row) => number) =>
  rows.map(of).toSorted((a, b) => a - b)[Math.floor(rows.length / 2)]!

requireBuild()
const rows = await Effect.runPromise(Effect.scoped(Effect.gen(function*() {
  const cluster = yield* RedisCluster.start({ masters: 3, replicas: 0, persistence: "aof-everysec" })
  const about = {
    ...describeMachine(),
    rounds,
    versions: { ...versions(), "redis-server": cluster.nodes[0]!.version.join(".") }
  }
  console.log(options.json ? JSON.stringify({ run: about }) : header(about))
  const found: Array<Row> = []
  for (let round = 0; round < rounds; round++) {
    for (const partitions of partitionCounts) found.push(yield* measure(cluster, partitions, round))
  }
  return partitionCounts.map((partitions): Row => {
    const mine = found.filter((row) => row.partitions === partitions)
    return {
      partitions,
      perSecond: medianBy(mine, (row) => row.perSecond),
      busiest: medianBy(mine, (row) => row.busiest),
      all: medianBy(mine, (row) => row.all)
    }
  })
})))

if (options.json) { for (const row of rows) console.log(JSON.stringify(row)) }
else {
  console.log(
    aligned([
      [
        "partitions",
        "jobs/s here",
        "busiest master, us a job",
        "all masters, us a job",
        "jobs/s that the busiest could do"
      ],
      ...rows.map(({ all, busiest, partitions, perSecond }) => [
        String(partitions),
        grouped(Math.round(perSecond)),
        busiest.toFixed(2),
        all.toFixed(2),
        grouped(Math.round(1e6 / busiest))
      ])
    ]).join("\n")
  )
}
const first = rows[0]!
const spread = Math.min(...rows.slice(1).map(({ busiest }) => busiest))
// Three masters: half of what would be ideal is what shows that it spreads at all.
if (first.busiest / spread < 1.5) {
  console.error("FAILED the busiest master has about as much to do with partitions as without")
  process.exitCode = 1
}
