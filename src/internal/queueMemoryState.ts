/** The data of a queue in this process, and how jobs move in it. */
import { Clock, Effect, PubSub } from "effect"
import type { Letter, Transition, TransitionKind } from "./queueEngine.ts"
import type { JobRecord, Outcome, StoredFailure } from "./queueRecord.ts"

/** Where a job is that has not ended. */
export type Place = "ready" | "delayed" | "active"

/** A job that has not ended, or a dead letter. */
export interface Stored {
  record: JobRecord
  /** Undefined for a dead letter. Set by `move`. */
  place: Place | undefined
  dueAt: number
  leaseUntil: number
  holder: { readonly token: number; readonly owner: string } | undefined
  failure: StoredFailure | undefined
  /** The claim whose report that was: it may come again. */
  failedBy: number | undefined
  cancel: string | undefined
}

/** Tells of a transition. */
export type Note = (kind: TransitionKind, id: string, tenant: string | undefined) => void

// As Redis orders members with equal scores.
const compareIds = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b))

type Found = ReadonlyArray<readonly [string, Stored]>

/** By when they are due. */
export const byDueTime = (found: Found): Array<string> =>
  found.toSorted(([idA, a], [idB, b]) => a.dueAt - b.dueAt || compareIds(idA, idB)).map(([id]) => id)

/** By lease, and jobs of one claim as they were claimed. */
export const byLease = (found: Found): Array<string> =>
  found.toSorted(([, a], [, b]) => a.leaseUntil - b.leaseUntil).map(([id]) => id)

/** Ids of dead letters, the newest first. */
export const newestFirst = (found: Iterable<string>, at: (id: string) => number): Array<string> =>
  [...found].toSorted((a, b) => at(b) - at(a) || compareIds(b, a))

export type MemoryState = ReturnType<typeof makeMemoryState>

/** An empty queue. */
export const makeMemoryState = (address: string, deliver: (letter: Letter) => void) => {
  const jobs = new Map<string, Stored>()
  const outcomes = new Map<string, Outcome>()
  // The token of the claim that ended a job: its report may come again.
  const endedBy = new Map<string, number>()
  /** Dead letters, the oldest first. */
  const dead = new Set<string>()
  const forget = (id: string) => {
    outcomes.delete(id)
    endedBy.delete(id)
    dead.delete(id)
  }
  // Looked for with each step: few, among all that wait.
  const delayed = new Map<string, Stored>()
  const active = new Map<string, Stored>()
  const move = (id: string, job: Stored, place: Place | undefined) => {
    delayed.delete(id)
    active.delete(id)
    if (place === "delayed") delayed.set(id, job)
    if (place === "active") active.set(id, job)
    job.place = place
  }
  const ready: ReadonlyArray<Array<string>> = Array.from({ length: 10 }, () => [])
  const finished: Array<string> = []
  const awaited = new Set<string>()
  const flags = { sleeping: false, paused: false, token: 0 }
  const hub = Effect.runSync(PubSub.sliding<ReadonlyArray<Transition>>(1024))

  let letters: Array<Letter> = []
  const post = (letter: Letter) => letters.push(letter)

  // One step at a time: what it tells goes out when it is done, since whoever is told may take the next one at once.
  const atNow = <A>(f: (nowMillis: number, note: Note) => A): Effect.Effect<A> =>
    Effect.map(Clock.currentTimeMillis, (nowMillis) => {
      const transitions: Array<Transition> = []
      const result = f(
        nowMillis,
        (kind, id, tenant) => transitions.push({ kind, id, tenant, at: nowMillis })
      )
      if (transitions.length > 0) PubSub.publishUnsafe(hub, transitions)
      const told = letters
      letters = []
      for (const letter of told) deliver(letter)
      return result
    })

  const wake = () => {
    if (!flags.sleeping || flags.paused) return
    flags.sleeping = false
    post({ kind: "wake", queue: address, owner: undefined })
  }

  const push = (id: string, job: Stored, front: boolean) => {
    move(id, job, "ready")
    const list = ready[job.record.priority]!
    if (front || job.record.lifo) list.unshift(id)
    else list.push(id)
  }

  const takeOut = (id: string, job: Stored) => {
    if (job.place === "ready") {
      const list = ready[job.record.priority]!
      list.splice(list.indexOf(id), 1)
    }
    move(id, job, undefined)
    job.holder = undefined
  }

  /** Those who go back to the front, in their order. */
  let fronts: Array<readonly [string, Stored]> = []
  const pushFronts = () => {
    for (const [id, job] of fronts.toReversed()) push(id, job, true)
    fronts = []
  }

  const putBack = (id: string, job: Stored, nowMillis: number, delayMillis: number, front: boolean) => {
    job.holder = undefined
    if (delayMillis > 0) {
      move(id, job, "delayed")
      job.dueAt = nowMillis + Math.ceil(delayMillis)
    } else if (front) fronts.push([id, job])
    else push(id, job, false)
    wake()
  }

  const finish = (id: string, job: Stored, outcome: Outcome) => {
    if (job.holder !== undefined) endedBy.set(id, job.holder.token)
    takeOut(id, job)
    job.failure = undefined
    job.cancel = undefined
    outcomes.set(id, outcome)
    if (outcome.state === "failed") dead.add(id)
    else {
      jobs.delete(id)
      finished.push(id)
    }
    tell(id)
  }

  const tell = (id: string) => {
    if (awaited.delete(id)) post({ kind: "finished", queue: address, id })
  }

  const cancelled = (id: string, job: Stored, reason: string, nowMillis: number, note: Note) => {
    const { name, tenant } = job.record
    finish(id, job, { state: "cancelled", finishedAt: nowMillis, attempt: 0, name, tenant, body: reason })
    note("cancelled", id, tenant)
  }

  return {
    jobs,
    outcomes,
    endedBy,
    dead,
    delayed,
    active,
    ready,
    finished,
    awaited,
    flags,
    hub,
    forget,
    move,
    post,
    atNow,
    wake,
    push,
    pushFronts,
    takeOut,
    putBack,
    finish,
    tell,
    cancelled
  }
}
