/** What the queue says of jobs: how they end while they do, and what is left of them when all is over. */
import { Effect, Schedule, Stream } from "effect"
import { JobQueue } from "../../../src/JobQueue.ts"
import type { History, HistoryWriter } from "./events.ts"
import { type GaveUp, type Payload, type TrialJob, trialJobs } from "./jobs.ts"

const pageSize = 1000
const askedAtOnce = 200

/** Writes down each end of a job, and of a lease, that is told of. A reader that is cut off, or slow, misses some. */
export const watch = (writer: HistoryWriter): Effect.Effect<unknown, never, JobQueue> =>
  Effect.flatMap(
    JobQueue,
    (queue) =>
      Effect.forEach(trialJobs, (job) =>
        Stream.runForEach(queue.events(job), ({ id, kind }) =>
          Effect.sync(() => {
            if (kind === "completed" || kind === "failed" || kind === "cancelled" || kind === "stalled") {
              writer.write({ kind: "told", id, how: kind })
            }
          })).pipe(
            Effect.ignore,
            Effect.repeat(Schedule.spaced("100 millis"))
          ), { concurrency: "unbounded" })
  )

/** Waits until all jobs have ended, for so long at most. */
export const runEmpty = (withinMillis: number) =>
  Effect.gen(function*() {
    const queue = yield* JobQueue
    const deadline = performance.now() + withinMillis
    const left = Effect.forEach(trialJobs, (job) =>
      Effect.map(queue.counts(job), ({ active, delayed, waiting }) => active + delayed + waiting))
    while (
      (yield* left).some((count) =>
        count > 0
      ) && performance.now() < deadline
    ) yield* Effect.sleep("50 millis")
  })

/** Writes down what the queue holds, and how each job of the history has ended. */
export const readOutcomes = (history: History, writer: HistoryWriter) =>
  Effect.gen(function*() {
    const queue = yield* JobQueue
    const queueOf = new Map(
      history.flatMap((entry) =>
        entry.kind === "asked" ? entry.jobs.map((job) => [job.mark, entry.queue] as const) : []
      )
    )
    for (const job of trialJobs) {
      const { active, delayed, failed, finished, waiting } = yield* queue.counts(job)
      writer.write({ kind: "counts", queue: job.queue, waiting, delayed, active, failed, finished })
      const marks = yield* deadLetters(job)
      const ids = new Set(marks.keys())
      for (const entry of history) {
        if (entry.kind === "started" && entry.queue === job.queue) ids.add(entry.id)
        if (entry.kind === "enqueued" && queueOf.get(entry.marks[0] ?? "") === job.queue) {
          for (const id of entry.ids) ids.add(id)
        }
      }
      yield* Effect.forEach(
        ids,
        (id) =>
          Effect.map(
            outcomeOf(job, id),
            (outcome) => writer.write({ kind: "outcome", queue: job.queue, id, mark: marks.get(id), ...outcome })
          ),
        { concurrency: askedAtOnce, discard: true }
      )
    }
  })

/** The marks of dead letters, by id; a queue that is broken may have lost the payload. */
const deadLetters = (job: TrialJob) =>
  Effect.gen(function*() {
    const queue = yield* JobQueue
    const marks = new Map<string, string | undefined>()
    let cursor: string | undefined
    do {
      const page: Effect.Success<ReturnType<typeof queue.list>> = yield* queue.list(job, {
        state: "failed",
        limit: pageSize,
        cursor
      })
      for (const { id, payload } of page.jobs) marks.set(id, (payload as Payload | undefined)?.mark)
      cursor = page.next
    } while (cursor !== undefined)
    return marks
  })

const outcomeOf = (job: TrialJob, id: string) =>
  Effect.flatMap(JobQueue, (queue) =>
    Effect.match(queue.result(job, id, { within: "1 second" }), {
      onSuccess: (run) => ({ state: "completed" as const, run, detail: "" }),
      onFailure: (error) => {
        const detail = error.message
        switch (error._tag) {
          case "GaveUp":
            return { state: "failed" as const, run: runOf(error), detail }
          case "JobFailed":
            return { state: error.reason === "crashed" ? "crashed" as const : "other" as const, run: undefined, detail }
          case "ResultTimeout":
            return { state: "open" as const, run: undefined, detail }
          case "ResultExpired":
            return { state: "unknown" as const, run: undefined, detail }
          default:
            return { state: "other" as const, run: undefined, detail }
        }
      }
    }))

const runOf = ({ attempt, by, token }: GaveUp) => ({ by, token, attempt })
