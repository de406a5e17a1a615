/**
 * Shows which connections a process has that enqueues to many queues and works on all of them: `npm run connections`.
 * Fails when they are more than for a single queue. `--json`.
 */
import type { Redis } from "ioredis"
import { parseArgs } from "node:util"
import { openElsewhere } from "./support/elsewhere.ts"
import { onOwnServer } from "./support/ownServer.ts"

const { values: options } = parseArgs({ options: { json: { type: "boolean", default: false } } })

/** The lines of CLIENT LIST that are not ours. */
const clients = async (control: Redis): Promise<ReadonlyArray<string>> =>
  String(await control.client("LIST")).trim().split("\n").filter((line) => !line.includes(" name=control "))

const clientsWith = async (control: Redis, port: number, count: number) => {
  const queues = Array.from({ length: count }, (_, i) => `connections-${i}`)
  const process = await openElsewhere(port)
  await process.work(queues, 10)
  await process.setWorking(true)
  for (const queue of queues) await process.fill(queue, 1)
  const list = await clients(control)
  await process.close()
  const left = await clients(control)
  if (options.json) console.log(JSON.stringify({ queues: count, clients: list, left }))
  else {console.log(
      [`queues: ${count}, connections: ${list.length}, left afterwards: ${left.length}`, ...list, ""].join("\n")
    )}
  return list.length + left.length
}

await onOwnServer(options, async ({ control, port }) => {
  const withOne = await clientsWith(control, port, 1)
  const withMany = await clientsWith(control, port, 200)
  if (withMany > withOne) {
    console.error("FAILED more queues took more connections")
    process.exitCode = 1
  }
})
