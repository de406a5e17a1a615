/** Sends many enqueues of single jobs as few calls. */
import { Effect } from "effect"
import type { RedisError } from "../RedisError.ts"
import type { NewJob } from "./queueEngine.ts"

/** How many enqueues of single jobs go into one call at most; they gather while earlier calls are on their way. */
const gatherAtMost = 1000
/** How long the payloads in one such call are together, unless a single one is longer: they hold up the server. */
const gatherCharacters = 1024 * 1024
/** How many calls are on their way: the server works on one while this process makes the next one. */
const callsAtOnce = 2

/**
 * Enqueues single jobs in as few calls as possible. One that comes alone goes at once. Where many come, those of one turn
 * of the event loop go together, and those that come while two calls are on their way, when one is back: however many
 * there are, none waits for more than one call.
 */
export const makeGathering = (
  store: (jobs: ReadonlyArray<NewJob>, allNew: "0" | "1") => Effect.Effect<ReadonlyArray<number>, RedisError>
) => {
  interface Waiting {
    readonly job: NewJob
    readonly resume: (effect: Effect.Effect<ReadonlyArray<boolean>, RedisError>) => void
  }
  let gathered = new Set<Waiting>()
  let characters = 0
  let onTheirWay = 0
  let isBusy = false
  let isDue = false

  const sendSoon = (): void => {
    if (isDue || gathered.size === 0 || onTheirWay >= callsAtOnce) return
    // Whoever has just been told that a job is stored may have the next one.
    if (!isBusy) return send()
    isDue = true
    setImmediate(() => {
      isDue = false
      if (gathered.size > 0 && onTheirWay < callsAtOnce) send()
    })
  }

  const send = (): void => {
    const batch = [...gathered]
    gathered = new Set()
    characters = 0
    onTheirWay++
    isBusy = batch.length > 1 || onTheirWay > 1
    const jobs = batch.map((waiting) => waiting.job)
    Effect.runFork(store(jobs, jobs.every((job) => job.idIsNew) ? "1" : "0")).addObserver((exit) => {
      onTheirWay--
      if (exit._tag === "Success") {
        const known = new Set(exit.value)
        batch.forEach((waiting, i) => waiting.resume(Effect.succeed([!known.has(i)])))
      } else {
        for (const waiting of batch) waiting.resume(Effect.failCause(exit.cause))
      }
      sendSoon()
    })
  }
  return (job: NewJob): Effect.Effect<ReadonlyArray<boolean>, RedisError> =>
    Effect.callback((resume) => {
      const waiting: Waiting = { job, resume }
      const { length } = job.record.payload
      if (gathered.size === gatherAtMost || (gathered.size > 0 && characters + length > gatherCharacters)) send()
      gathered.add(waiting)
      characters += length
      sendSoon()
      return Effect.sync(() => {
        if (gathered.delete(waiting)) characters -= length
      })
    })
}
