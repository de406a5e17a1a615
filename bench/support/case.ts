/** What is measured, and what comes out of it. */

/** A number that is to be reached. */
export interface Figure {
  /** Like `queue.drain.c100`. */
  readonly id: string
  readonly unit: "jobs/s" | "ops/s" | "messages/s" | "hand-overs/s" | "us" | "bytes"
  readonly better: "more" | "less"
}

/** A piece of work that yields one figure or more, for each of some systems. */
export interface Case {
  readonly name: string
  readonly figures: ReadonlyArray<Figure>
  /** What is done, and what the floor is. */
  readonly about: string
  /** Whether it has to last a while; then its size grows until it does. */
  readonly isRate: boolean
  /** How many items a measurement takes to begin with; 0 when it goes by time. */
  readonly size: number
  readonly smokeSize: number
  /** The module of each system's adapter, from `bench/`; `ours` and `floor` are among them. */
  readonly systems: Readonly<Record<string, string>>
  /** Whether it runs on a Cluster of three masters, instead of on one server. Default: false. */
  readonly onCluster?: boolean
  readonly run: (task: Task, probe: Probe) => Promise<Sample>
}

/** One measurement to be made. */
export interface Task {
  readonly case: string
  readonly system: string
  readonly port: number
  readonly size: number
  /** For how long, when it goes by time. */
  readonly seconds: number
  readonly profile: boolean
}

/** What one measurement found. */
export interface Sample {
  /** By the figure's id. */
  readonly values: Readonly<Record<string, number>>
  /** How many items it was. */
  readonly n: number
  readonly seconds: number
  /** CPU time for each item, in microseconds. */
  readonly clientCpu?: number
  readonly redisCpu?: number
  /** Commands that the server ran for each item, those of scripts included. */
  readonly commands?: number
}

/** Tells how many items it was and, if it ended earlier than it returned, how long it took. */
export type Work = () => Promise<{ readonly n: number; readonly seconds?: number }>

/** Measures work on the server that the task names. */
export interface Probe {
  readonly cost: (work: Work) => Promise<Cost>
  /** Bytes that the server's data take. */
  readonly usedMemory: () => Promise<number>
}

export interface Cost {
  readonly n: number
  readonly seconds: number
  /** Microseconds for each item. */
  readonly clientCpu: number
  readonly redisCpu: number
  /** Commands that the server ran for each item, those of scripts included. */
  readonly commands: number
}

/** An adapter's entry point: a connection to the server at that port. */
export type Open<Adapter> = (port: number, task: Task) => Promise<Adapter>

/** Loads the adapter of `system`, and nothing of the others. */
export const openAdapter = async <Adapter>({ systems }: Pick<Case, "systems">, task: Task) => {
  const module = await import(new URL(`../${systems[task.system]}`, import.meta.url).href) as {
    readonly open: Open<Adapter>
  }
  return await module.open(task.port, task)
}

/** Opens the adapter for `run`, and closes it afterwards. */
export const withAdapter = <Adapter extends { readonly close: () => Promise<unknown> }>(
  systems: Case["systems"],
  run: (adapter: Adapter, task: Task, probe: Probe) => Promise<Sample>
): Case["run"] =>
async (task, probe) => {
  const adapter = await openAdapter<Adapter>({ systems }, task)
  const sample = await run(adapter, task, probe)
  await adapter.close()
  return sample
}

/** The sample of a figure that is so many items a second. */
export const rate = (id: string, cost: Cost): Sample => ({
  values: { [id]: Math.round(cost.n / cost.seconds) },
  ...cost
})
