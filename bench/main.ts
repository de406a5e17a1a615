/**
 * Measures the library beside its peers and beside Redis itself: `npm run bench -- queue`. Arguments are beginnings of
 * figures' ids; without one, all are measured. `--rounds N`, `--systems ours,bullmq`, `--json`, `--smoke`, `--profile`.
 */
import { Effect } from "effect"
import { fork } from "node:child_process"
import { parseArgs } from "node:util"
import { RedisCluster } from "../test/support/redisCluster.ts"
import { RedisServer } from "../test/support/redisServer.ts"
import { cases } from "./cases.ts"
import type { Case, Sample, Task } from "./support/case.ts"
import { describeMachine, installPeers, peerVersions, requireBuild, versions } from "./support/preparation.ts"
import { figureLines, header, markdown, type Measured, samplesLine, table } from "./support/report.ts"

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: "boolean", default: false },
    profile: { type: "boolean", default: false },
    rounds: { type: "string" },
    smoke: { type: "boolean", default: false },
    systems: { type: "string" }
  }
})

// A rate that was measured for less time says more about the start than about the rate.
const leastSeconds = values.smoke ? 0 : 2
const rounds = Number(values.rounds ?? (values.smoke ? 1 : 5))
const limitMillis = values.smoke ? 30_000 : 300_000

const isWanted = (id: string) =>
  positionals.length === 0 || positionals.some((wanted) => id === wanted || id.startsWith(`${wanted}.`))
const wantedSystems = values.systems?.split(",")
const chosen = cases.filter(({ figures }) => figures.some(({ id }) => isWanted(id)))
if (chosen.length === 0 || !(rounds >= 1)) {
  console.error(
    `Nothing to measure. There are:\n${cases.flatMap((each) => each.figures.map(({ id }) => id)).join("\n")}`
  )
  process.exit(2)
}

/** One measurement, in a process of its own, on an empty server. */
const measure = (task: Task): Promise<Sample> =>
  new Promise((resolve, reject) => {
    const child = fork(new URL("measure.ts", import.meta.url), [JSON.stringify(task)], {
      execArgv: ["--expose-gc"],
      // What a peer prints is not a result.
      stdio: ["ignore", 2, 2, "ipc"]
    })
    const late = setTimeout(() => child.kill("SIGKILL"), limitMillis)
    let reply: { readonly sample?: Sample; readonly problem?: string } = {}
    child.on("message", (message) => reply = message as typeof reply)
    child.on("error", reject)
    child.on("close", (code, signal) => {
      clearTimeout(late)
      if (reply.sample !== undefined) resolve(reply.sample)
      else reject(new Error(reply.problem ?? `it ended with ${signal ?? code} and no figure`))
    })
  })

/** Servers to measure on; all of them are emptied before each measurement, and clients begin with the first. */
type Servers = ReadonlyArray<RedisServer>

const run = async (single: Servers, cluster: Servers): Promise<ReadonlyArray<Measured>> => {
  const results: Array<Measured> = []
  for (const each of chosen) {
    const servers = each.onCluster === true ? cluster : single
    const samples = new Map<string, Array<Sample>>()
    const problems: Array<string> = []
    const systems = Object.keys(each.systems).filter((name) => wantedSystems?.includes(name) ?? true)
    const sizes = new Map(systems.map((system) => [system, values.smoke ? each.smokeSize : each.size]))
    for (let round = 0; round < rounds; round++) {
      // Nobody always comes after the same one.
      const turn = [...systems.slice(round % systems.length), ...systems.slice(0, round % systems.length)]
      for (const system of turn) {
        try {
          const sample = await measureLongEnough(servers, each, system, sizes)
          samples.set(system, [...samples.get(system) ?? [], sample])
          console.error(`${each.name} ${system} ${round + 1}/${rounds}: ${JSON.stringify(sample)}`)
        } catch (error) {
          problems.push(`${each.name} ${system}: ${error instanceof Error ? error.message : String(error)}`)
          console.error(problems.at(-1))
        }
      }
    }
    const measured: Measured = { case: each, samples, problems }
    results.push(measured)
    if (values.json) { for (const line of [...figureLines(measured), samplesLine(measured)]) console.log(line) }
  }
  return results
}

const measureLongEnough = async (
  servers: Servers,
  { isRate, name }: Case,
  system: string,
  sizes: Map<string, number>
) => {
  for (;;) {
    const size = sizes.get(system)!
    await Effect.runPromise(Effect.forEach(servers, (server) => server.cli("FLUSHALL")))
    const { port } = servers[0]!
    const sample = await measure({
      case: name,
      system,
      port,
      size,
      seconds: leastSeconds || 0.3,
      profile: values.profile
    })
    if (!isRate || size === 0 || size >= largestSize || sample.seconds >= leastSeconds) return sample
    const factor = Math.min(20, 1.2 * leastSeconds / sample.seconds)
    sizes.set(system, Math.min(largestSize, Math.ceil(size * factor / 1000) * 1000))
    console.error(`${name} ${system}: ${sample.seconds} s are too short, once more with ${sizes.get(system)}`)
  }
}

const largestSize = 2_000_000

installPeers()
requireBuild()
const results = await Effect.runPromise(Effect.scoped(Effect.gen(function*() {
  const server = yield* RedisServer.start()
  const about = {
    ...describeMachine(),
    rounds,
    smoke: values.smoke,
    versions: { ...versions(), ...peerVersions(), "redis-server": server.version.join(".") }
  }
  console.log(values.json ? JSON.stringify({ run: about }) : header(about))
  const cluster = chosen.some(({ onCluster }) => onCluster)
    ? (yield* RedisCluster.start({ masters: 3, replicas: 0 })).nodes
    : []
  return yield* Effect.promise(() => run([server], cluster))
})))
if (!values.json) console.log(`${table(results)}\n${markdown(results)}`)
const problems = results.flatMap((result) => result.problems)
for (const problem of problems) console.error(`FAILED ${problem}`)
process.exitCode = problems.length === 0 ? 0 : 1
