/** Our queues in a process of their own, that does what its parent says. */
import { fork } from "node:child_process"
import { once } from "node:events"

/** What the process can be asked for. Queues go by their names. */
export interface Elsewhere {
  /** Enqueues so many jobs, in batches of up to 1,000. */
  readonly fill: (queue: string, count: number) => Promise<void>
  /** Enqueues so many jobs one by one, 5 to 15 ms apart, each to a queue by chance. */
  readonly trickle: (queues: ReadonlyArray<string>, count: number) => Promise<void>
  /** Takes so many jobs, and holds them as long as it lives, and its leases (30 seconds unless told otherwise) after that. */
  readonly take: (queue: string, count: number, leaseMillis?: number) => Promise<void>
  /** A worker for each queue, which runs so many jobs at once, from `setWorking(true)` on. */
  readonly work: (queues: ReadonlyArray<string>, concurrency: number) => Promise<void>
  readonly setWorking: (working: boolean) => Promise<void>
  readonly progress: () => Promise<Progress>
  /** How long jobs of `trickle` waited for their handlers since `setWorking`, in microseconds. */
  readonly waits: () => Promise<ReadonlyArray<number>>
  /** How many jobs wait and how many are held, in all these queues. */
  readonly counts: (queues: ReadonlyArray<string>) => Promise<{ readonly waiting: number; readonly active: number }>
  readonly close: () => Promise<void>
}

export interface Progress {
  /** How many jobs have run. */
  readonly runs: number
  /** When the last one did, in microseconds of the machine's clock. */
  readonly lastAt: number
  /** Microseconds of CPU that the process has used. */
  readonly cpu: number
}

/** A question to the process, and its answer. */
export interface Question {
  readonly id: number
  readonly method: keyof Elsewhere
  readonly args: ReadonlyArray<unknown>
}
export interface Answer {
  readonly id: number
  readonly result?: unknown
  readonly problem?: string
}

/** Starts the process, on the server at that port. `kill` ends it without a word to the server. */
export const openElsewhere = async (port: number): Promise<Elsewhere & { readonly kill: () => Promise<void> }> => {
  const child = fork(new URL("../ours/elsewhere.ts", import.meta.url), [String(port)], {
    stdio: ["ignore", 2, 2, "ipc"]
  })
  const gone = once(child, "exit")
  const endedEarly = gone.then(() => Promise.reject(new Error("The process with the queues has ended")))
  await Promise.race([once(child, "message"), endedEarly])
  const open = new Map<number, PromiseWithResolvers<any>>()
  let asked = 0
  child.on("message", ({ id, problem, result }: Answer) => {
    if (problem === undefined) open.get(id)?.resolve(result)
    else open.get(id)?.reject(new Error(problem))
    open.delete(id)
  })
  endedEarly.catch((error) => {
    for (const { reject } of open.values()) reject(error)
  })
  const ask = (method: keyof Elsewhere) => (...args: ReadonlyArray<unknown>) => {
    const answer = Promise.withResolvers<any>()
    open.set(asked, answer)
    child.send({ id: asked++, method, args } satisfies Question)
    return answer.promise
  }
  return {
    fill: ask("fill"),
    trickle: ask("trickle"),
    take: ask("take"),
    work: ask("work"),
    setWorking: ask("setWorking"),
    progress: ask("progress"),
    waits: ask("waits"),
    counts: ask("counts"),
    close: async () => {
      await ask("close")()
      child.disconnect()
      await gone
    },
    kill: async () => {
      child.kill("SIGKILL")
      await gone
    }
  }
}
