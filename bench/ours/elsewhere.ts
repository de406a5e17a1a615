/** The process that `support/elsewhere.ts` starts: our queues with default options, and answers for the parent. */
import { Effect, Exit, Layer, ManagedRuntime, Scope } from "effect"
import { JobQueue, JobWorker } from "effect-redis-kit"
import { counted, microsNow, pause } from "../support/callers.ts"
import type { Answer, Elsewhere, Question } from "../support/elsewhere.ts"
import { batch, batchSize, email } from "../support/jobs.ts"
import { ownCpu } from "../support/probe.ts"
import { fromCallers } from "./callers.ts"
import { emailJob, queuesAt } from "./email.ts"

const takeAtMost = 500

const open = async (port: number): Promise<Elsewhere> => {
  const runtime = ManagedRuntime.make(queuesAt(port))
  const queue = await runtime.runPromise(JobQueue)
  const scope = Scope.makeUnsafe()
  let worker: JobWorker["Service"]
  let runs = 0
  let lastAt = 0
  let waits: Array<number> = []

  return {
    fill: (name, count) => {
      const job = emailJob(name)
      const next = counted(Math.ceil(count / batchSize), (number) => batch(number, count))
      return runtime.runPromise(fromCallers(1, next, (emails) => queue.enqueueAll(job, emails)))
    },
    trickle: async (names, count) => {
      const jobs = names.map(emailJob)
      for (let i = 0; i < count; i++) {
        const job = jobs[Math.floor(Math.random() * jobs.length)]!
        await runtime.runPromise(queue.enqueue(job, email(i, microsNow())))
        await pause(5 + Math.random() * 10)
      }
    },
    take: (name, count, lease) => {
      const next = counted(Math.ceil(count / takeAtMost), (i) => Math.min(takeAtMost, count - i * takeAtMost))
      return runtime.runPromise(
        Scope.provide(fromCallers(1, next, (some) => queue.take(emailJob(name), some, { lease })), scope)
      )
    },
    work: async (names, concurrency) => {
      const handlers = names.map((name) =>
        emailJob(name).handler(({ n }) =>
          Effect.sync(() => {
            runs++
            lastAt = microsNow()
            waits.push(lastAt - n)
          })
        )
      )
      const context = await runtime.runPromise(Layer.buildWithScope(JobWorker.layer(handlers, { concurrency }), scope))
      worker = await runtime.runPromise(Effect.provide(JobWorker, context))
      await runtime.runPromise(worker.pause)
    },
    setWorking: (working) => {
      waits = []
      return runtime.runPromise(working ? worker.resume : worker.pause)
    },
    progress: async () => ({ runs, lastAt, cpu: await ownCpu() }),
    waits: () => Promise.resolve(waits),
    counts: async (names) => {
      const all = await runtime.runPromise(Effect.forEach(names, queue.counts, { concurrency: "unbounded" }))
      return {
        waiting: all.reduce((sum, { waiting }) => sum + waiting, 0),
        active: all.reduce((sum, { active }) => sum + active, 0)
      }
    },
    close: async () => {
      await runtime.runPromise(Scope.close(scope, Exit.void))
      await runtime.dispose()
    }
  }
}

const queues = await open(Number(process.argv[2]))
const answer = async ({ args, id, method }: Question): Promise<Answer> => {
  try {
    const ask: (...args: ReadonlyArray<any>) => Promise<unknown> = queues[method]
    return { id, result: await ask(...args) }
  } catch (error) {
    return { id, problem: String(error) }
  }
}
process.on("message", async (question: Question) => process.send!(await answer(question)))
process.on("disconnect", () => process.exit())
process.send!("ready")
