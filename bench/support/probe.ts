/** What work costs: time, and CPU of this process and of the server. */
import type { Redis } from "ioredis"
import { mkdirSync, writeFileSync } from "node:fs"
import { Session } from "node:inspector/promises"
import type { Cost, Probe, Task, Work } from "./case.ts"
import { hottest } from "./hottest.ts"

/** What server and clients have spent on work that comes in turns, with other work in between. */
export interface Meter {
  /** Runs work, which tells how many items it was and, if it ended earlier than it returned, how long it took. */
  readonly add: (work: Work) => Promise<void>
  readonly cost: () => Cost
}

/** A meter for work that `control`'s server and those with `clientCpu`, in microseconds, do together. */
export const makeMeter = (control: Redis, clientCpu: () => Promise<number>): Meter => {
  const redisSeconds = async () =>
    await infoNumber(control, "cpu", "used_cpu_user") + await infoNumber(control, "cpu", "used_cpu_sys")
  const spent = { n: 0, seconds: 0, clientCpu: 0, redisCpu: 0, commands: 0 }
  return {
    add: async (work) => {
      // The server's own account of its commands is the longer one to write: it stays outside.
      const commandsBefore = await commandsRun(control)
      const redisBefore = await redisSeconds()
      const clientBefore = await clientCpu()
      const start = performance.now()
      const { n, seconds = (performance.now() - start) / 1000 } = await work()
      spent.clientCpu += await clientCpu() - clientBefore
      spent.redisCpu += 1e6 * (await redisSeconds() - redisBefore)
      spent.commands += await commandsRun(control) - commandsBefore
      spent.n += n
      spent.seconds += seconds
    },
    cost: () => ({
      n: spent.n,
      seconds: rounded(spent.seconds, 4),
      clientCpu: rounded(spent.clientCpu / spent.n, 2),
      redisCpu: rounded(spent.redisCpu / spent.n, 2),
      commands: rounded(spent.commands / spent.n, 3)
    })
  }
}

export const makeProbe = (control: Redis, task: Task): Probe => ({
  usedMemory: () => infoNumber(control, "memory", "used_memory"),
  cost: async (work) => {
    globalThis.gc?.()
    const meter = makeMeter(control, ownCpu)
    await meter.add(task.profile ? () => profiled(task, work) : work)
    return meter.cost()
  }
})

/** Microseconds of CPU that this process has used. */
export const ownCpu = (): Promise<number> => {
  const { system, user } = process.cpuUsage()
  return Promise.resolve(user + system)
}

/** A number in the server's INFO. */
export const infoNumber = async (control: Redis, section: string, field: string): Promise<number> =>
  Number(new RegExp(`^${field}:([\\d.]+)`, "m").exec(await control.info(section))?.[1])

/** How many commands the server has run, those of scripts included; the questions of a meter are none. */
const commandsRun = async (control: Redis): Promise<number> => {
  const stats = (await control.info("commandstats")).matchAll(/^cmdstat_([^:]+):calls=(\d+)/gm)
  return [...stats].reduce((sum, [, command, calls]) => command === "info" ? sum : sum + Number(calls), 0)
}

const rounded = (value: number, digits: number) => Number(value.toFixed(digits))

/** Samples the stack while work runs, writes a profile for Chrome's DevTools, and prints the functions that took most. */
const profiled = async <A>(task: Task, work: () => Promise<A>): Promise<A> => {
  const session = new Session()
  session.connect()
  await session.post("Profiler.enable")
  await session.post("Profiler.setSamplingInterval", { interval: 200 })
  await session.post("Profiler.start")
  const result = await work()
  const { profile } = await session.post("Profiler.stop")
  session.disconnect()
  const directory = new URL("../results/", import.meta.url)
  mkdirSync(directory, { recursive: true })
  writeFileSync(new URL(`${task.case}-${task.system}.cpuprofile`, directory), JSON.stringify(profile))
  console.error(hottest(profile))
  return result
}
