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
/** From how many on those that would go as one call go as two. */
const worthTwo = 16

const fresh = Effect.succeed([true])
const old = Effect.succeed([false])

/**
 * Enqueues single jobs in as few calls as possible. One that comes alone goes at once. Where many come, those of one turn
 * of the event loop go together, and those that come while two calls are on their way, when one is back: however many
 * there are, none waits for more than one call.
 *
 * As long as calls take turns, the server is at work while this process is. Callers who are all answered at once come back
 * at once: their jobs go in two halves, or one of the two would always wait for the other.
 */
export const makeGathering = (
  store: (jobs: ReadonlyArray<NewJob>, allNew: "0" | "1") => Effect.Effect<ReadonlyArray<number>, RedisError>
) => {
  interface Waiting {
    readonly job: NewJob
    readonly resume: (effect: Effect.Effect<ReadonlyArray<boolean>, RedisError>) => void
  }
  const gathered: Array<Waiting> = []
  let characters = 0
  let onTheirWay = 0
  let isBusy = false
  let isDue = false

  const sendSoon = (): void => {
    if (isDue || gathered.length === 0 || onTheirWay >= callsAtOnce) return
    // Whoever has just been told that a job is stored may have the next one.
    if (!isBusy) return send()
    isDue = true
    setImmediate(() => {
      isDue = false
      if (onTheirWay === 0 && gathered.length >= worthTwo) send(gathered.length >> 1)
      if (gathered.length > 0 && onTheirWay < callsAtOnce) send()
    })
  }

  const send = (count = gathered.length): void => {
    const batch = gathered.splice(0, count)
    for (const { job } of batch) characters -= job.record.payload.length
    onTheirWay++
    isBusy = batch.length > 1 || onTheirWay > 1
    const jobs = batch.map((waiting) => waiting.job)
    Effect.runFork(store(jobs, jobs.every((job) => job.idIsNew) ? "1" : "0")).addObserver((exit) => {
      onTheirWay--
      if (exit._tag === "Success") {
        const known = new Set(exit.value)
        batch.forEach((waiting, i) => waiting.resume(known.has(i) ? old : fresh))
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
      if (gathered.length === gatherAtMost || (gathered.length > 0 && characters + length > gatherCharacters)) send()
      gathered.push(waiting)
      characters += length
      sendSoon()
      return Effect.sync(() => {
        const place = gathered.indexOf(waiting)
        if (place < 0) return
        gathered.splice(place, 1)
        characters -= length
      })
    })
}
