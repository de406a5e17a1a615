/** Producers of jobs, with and without WAIT, and a worker that does them. */
import { Effect, Exit, Layer, Result, Schema, type Scope } from "effect"
import * as Job from "../../src/Job.ts"
import type { EnqueueOptions } from "../../src/JobInfo.ts"
import { JobQueue } from "../../src/JobQueue.ts"
import { JobWorker } from "../../src/JobWorker.ts"
import { hot, type Load } from "./loadContext.ts"
import { makeCaller, makeTally, type Tally } from "./tally.ts"

// Both in one queue: its keys have one hash tag.
const Plain = Job.make("plain", { queue: hot, payload: Schema.String })
const Durable = Job.make("durable", { queue: hot, payload: Schema.String })

const producers = 6
const pauseMillis = 5
const workMillis = 5
/** Every other job waits this long, so that there are always some to lose. */
const delay = "1 second"
/** A job whose claim was lost with its master waits for no lease; one whose holder is cut off does. */
const lease = "2 seconds"
/** How long the queue may take to run empty once all is well. */
const settleMillis = 20_000

export interface ProducerFindings {
  readonly tally: Tally
  /** Jobs that were acknowledged and never ran. */
  readonly lost: number
}

export interface JobFindings {
  readonly plain: ProducerFindings
  readonly durable: ProducerFindings
  readonly done: number
  /** Jobs that ran again after they had ended well: their end was lost, or came too late. */
  readonly ranAgain: number
  /** Jobs that began while an earlier holder, of a lesser token, was still at work. */
  readonly overlapping: number
  /** Jobs that began with a token no greater than that of an earlier holder. */
  readonly unfenced: number
}

interface Run {
  readonly token: number
  state: "running" | "done" | "interrupted"
}

/** Starts the worker; yields producers, who go on until the load stops, and then what came of it. */
export const startJobs = (
  load: Load,
  plain: JobQueue["Service"],
  durable: JobQueue["Service"]
): Effect.Effect<Effect.Effect<JobFindings>, never, Scope.Scope> =>
  Effect.gen(function*() {
    const runs = new Map<string, Array<Run>>()
    const findings = { ranAgain: 0, overlapping: 0, unfenced: 0 }

    const begin = (id: string, token: number): Run => {
      const earlier = runs.get(id) ?? []
      const run: Run = { token, state: "running" }
      if (earlier.some(({ state }) => state === "done")) findings.ranAgain++
      if (earlier.some(({ state }) => state === "running")) findings.overlapping++
      if (earlier.some((one) => one.token >= token)) findings.unfenced++
      runs.set(id, [...earlier, run])
      return run
    }
    const work = (_: string, { fencingToken, id }: Job.JobContext) =>
      Effect.suspend(() => {
        const run = begin(id, fencingToken)
        return Effect.onExit(Effect.sleep(workMillis), (exit) =>
          Effect.sync(() => {
            run.state = Exit.isSuccess(exit) ? "done" : "interrupted"
          }))
      })
    yield* Layer.build(
      Layer.provide(
        JobWorker.layer([Plain.handler(work), Durable.handler(work)], { concurrency: 50, lease }),
        Layer.succeed(JobQueue, plain)
      )
    ).pipe(Effect.orDie)

    const isDone = (id: string) => runs.get(id)?.some(({ state }) => state === "done") === true

    /** Each repeats a job by its id until it is told that it is stored. */
    const produce = (kind: string, enqueue: (options: EnqueueOptions) => ReturnType<typeof plain.enqueue>) =>
      Effect.gen(function*() {
        const tally = makeTally()
        const acknowledged: Array<string> = []
        const one = (producer: number) =>
          Effect.gen(function*() {
            const call = makeCaller(tally)
            for (let n = 0; !load.stopped(); n++) {
              const id = `${kind}-${producer}-${n}`
              while (!load.stopped()) {
                if (Result.isSuccess(yield* call(enqueue(n % 2 === 0 ? { id } : { id, delay })))) {
                  acknowledged.push(id)
                  break
                }
              }
              yield* Effect.sleep(pauseMillis)
            }
          })
        yield* Effect.forEach(Array.from({ length: producers }, (_, i) => i), one, { concurrency: "unbounded" })
        const deadline = performance.now() + settleMillis
        // One that a master has lost never runs, but others after it may: an empty queue has the last word.
        while (!acknowledged.every(isDone) && performance.now() < deadline) {
          const { active, delayed, waiting } = yield* Effect.orDie(plain.counts(Plain))
          if (active + delayed + waiting === 0) break
          yield* Effect.sleep("100 millis")
        }
        return { tally, lost: acknowledged.filter((id) => !isDone(id)).length } satisfies ProducerFindings
      })

    return Effect.map(
      Effect.all({
        plain: produce("plain", (options) => plain.enqueue(Plain, "", options)),
        durable: produce("durable", (options) => durable.enqueue(Durable, "", options))
      }, { concurrency: "unbounded" }),
      (produced) => ({ ...produced, ...findings, done: Array.from(runs.keys()).filter(isDone).length })
    )
  })
