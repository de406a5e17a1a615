/** A process that makes one measurement: the task is its argument, the sample its only message. */
import { Redis } from "ioredis"
import { cases } from "./cases.ts"
import type { Task } from "./support/case.ts"
import { makeProbe } from "./support/probe.ts"

const task = JSON.parse(process.argv[2]!) as Task
// Nobody waits for it any more.
process.on("disconnect", () => process.exit(1))

const measured = cases.find(({ name }) => name === task.case)!
const control = new Redis({ host: "127.0.0.1", port: task.port })
try {
  const sample = await measured.run(task, makeProbe(control, task))
  process.send!({ sample })
} catch (error) {
  process.send!({ problem: error instanceof Error ? error.stack : String(error) })
}
control.disconnect()
// A peer may have left timers behind.
process.disconnect()
