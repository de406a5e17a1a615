/** A process that opens and closes the things of one group, prints a report on each, and then has nothing more to do. */
import { Effect } from "effect"
import { Redis as Client } from "ioredis"
import { connections } from "./connections.ts"
import { cyclesOf, type Thing } from "./cycles.ts"
import { onCluster, throughSentinels } from "./deployments.ts"
import { memory } from "./memory.ts"
import { locks, others } from "./others.ts"
import { queues } from "./queues.ts"

const [group = "", url = "", seed = "", settings = "{}"] = process.argv.slice(2)

const groups: Record<string, ReadonlyArray<Thing>> = {
  connections: connections(url),
  queues: queues(url),
  locks: locks(url),
  others: others(url),
  cluster: onCluster(JSON.parse(settings)),
  sentinel: throughSentinels(JSON.parse(settings)),
  memory
}

process.on("warning", (warning) => console.log(`warning ${warning.stack}`.replaceAll("\n", " ")))

// A client that is not ours, so that it is there before and after.
const observer = new Client(url)
for (const thing of groups[group] ?? []) {
  await observer.flushall()
  console.log(JSON.stringify(await Effect.runPromise(cyclesOf(thing, observer, Number(seed)))))
}
await observer.quit()
const begin = performance.now()
process.on("exit", () => console.log(`exited after ${Math.round(performance.now() - begin)} ms`))
