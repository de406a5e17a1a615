/** What work costs: time, and CPU of this process and of the server. */
import type { Redis } from "ioredis"
import { mkdirSync, writeFileSync } from "node:fs"
import { Session } from "node:inspector/promises"
import type { Probe, Task } from "./case.ts"
import { hottest } from "./hottest.ts"

export const makeProbe = (control: Redis, task: Task): Probe => {
  const info = async (section: string, field: string) =>
    Number(new RegExp(`^${field}:([\\d.]+)`, "m").exec(await control.info(section))?.[1])
  const redisSeconds = async () => await info("cpu", "used_cpu_user") + await info("cpu", "used_cpu_sys")
  return {
    usedMemory: () => info("memory", "used_memory"),
    cost: async (work) => {
      globalThis.gc?.()
      const redisBefore = await redisSeconds()
      const clientBefore = process.cpuUsage()
      const start = performance.now()
      const { n, seconds = (performance.now() - start) / 1000 } = await (task.profile ? profiled(task, work) : work())
      const client = process.cpuUsage(clientBefore)
      const redis = await redisSeconds() - redisBefore
      return {
        n,
        seconds: rounded(seconds, 4),
        clientCpu: rounded((client.user + client.system) / n, 2),
        redisCpu: rounded(redis * 1e6 / n, 2)
      }
    }
  }
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
