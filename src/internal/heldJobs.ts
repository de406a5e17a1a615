/** The jobs that one process holds of one queue, and the leases by which it holds them. */
import type { Claim, Report } from "./queueEngine.ts"

/** Jobs that were claimed together. */
export interface Batch {
  readonly token: number
  /** Until when the lease surely lasts, in monotonic time: counted from before the last step that gave it was sent. */
  leaseUntil: number
  /** How many of its jobs are held, and how many of those have nothing to report yet. */
  held: number
  open: number
}

/** A job that is held. */
export interface Held {
  readonly claim: Claim
  readonly batch: Batch
  /** Called when the lease is lost, or the job is to be cancelled. */
  onEnd: OnEnd
  /** What is to be reported; the job is no longer held once that has been taken. */
  report: Report | undefined
  /** The report may have been taken already, as a reply was lost. */
  mayBeReported: boolean
  /** Told when the report was taken, or refused. */
  onReported: Array<(taken: boolean) => void> | undefined
}

export type HoldEnd = { readonly kind: "lost" } | { readonly kind: "cancelled"; readonly reason: string }
export type OnEnd = (why: HoldEnd) => void

export interface HeldJobs {
  readonly byId: ReadonlyMap<string, Held>
  /** Takes in what was claimed; false when it is held already, or was given up before. */
  readonly accept: (claim: Claim, leaseUntil: number) => boolean
  /** Says what is to be reported of it. */
  readonly report: (job: Held, report: Report) => void
  /** Lets go of what has been reported. */
  readonly drop: (job: Held, taken: boolean) => void
  /** Has it end by itself, unless it has. */
  readonly end: (id: string, reason: string) => void
  /** Gives up what has nothing to report yet. */
  readonly loseAll: (token: number) => void
  /** Gives up what is held by leases that have passed. */
  readonly giveUpLate: (nowMillis: number) => void
  /** Those of whose jobs some have nothing to report yet. */
  readonly openBatches: () => Array<Batch>
  /** Whether any of them will be a dead letter if this process dies. */
  readonly hasLastChance: () => boolean
}

/** How many claims that were given up are remembered. */
const lostAtMost = 1000

const noOne: OnEnd = () => {}

/** `receive` is called with each job that comes to be held, after `onHeld`. */
export const makeHeldJobs = (
  maxCrashes: number,
  receive: (claim: Claim) => OnEnd,
  onHeld: () => void
): HeldJobs => {
  const byId = new Map<string, Held>()
  const batches = new Map<number, Batch>()
  // Tokens of claims that were given up. One may be told of again; its job may still be ending here.
  const lost = new Set<number>()
  let lastChances = 0

  const isLastChance = ({ record }: Claim) =>
    record !== undefined && record.crashes > 0 && record.crashes + 1 >= maxCrashes
  const forget = (job: Held) => {
    if (isLastChance(job.claim)) lastChances--
    if (byId.get(job.claim.id) === job) byId.delete(job.claim.id)
    if (--job.batch.held === 0) batches.delete(job.batch.token)
    if (job.report === undefined) job.batch.open--
  }
  const lose = (job: Held) => {
    forget(job)
    lost.add(job.claim.token)
    if (lost.size > lostAtMost) lost.delete(lost.values().next().value!)
    job.onEnd({ kind: "lost" })
  }
  const loseAll = (token: number) => {
    for (const job of [...byId.values()]) if (job.batch.token === token && job.report === undefined) lose(job)
  }
  const openBatches = () => [...batches.values()].filter(({ open }) => open > 0)

  return {
    byId,
    loseAll,
    openBatches,
    hasLastChance: () => lastChances > 0,
    accept: (claim, leaseUntil) => {
      const before = byId.get(claim.id)
      if (before?.claim.token === claim.token || lost.has(claim.token)) return false
      if (before !== undefined && before.report === undefined) lose(before)
      let batch = batches.get(claim.token)
      if (batch === undefined) {
        batch = { token: claim.token, leaseUntil, held: 0, open: 0 }
        batches.set(claim.token, batch)
      }
      batch.held++
      batch.open++
      const job: Held = { claim, batch, onEnd: noOne, report: undefined, mayBeReported: false, onReported: undefined }
      // Before `receive`: a job that nobody can run is settled there.
      byId.set(claim.id, job)
      if (isLastChance(claim)) lastChances++
      onHeld()
      job.onEnd = receive(claim)
      return true
    },
    report: (job, report) => {
      job.report = report
      job.batch.open--
    },
    drop: (job, taken) => {
      forget(job)
      if (job.onReported !== undefined) { for (const tell of job.onReported) tell(taken) }
    },
    end: (id, reason) => {
      const job = byId.get(id)
      // What has ended, and is not known to have been reported, is beyond that.
      if (job !== undefined && job.report === undefined) job.onEnd({ kind: "cancelled", reason })
    },
    giveUpLate: (now) => {
      for (const { leaseUntil, token } of openBatches()) if (now >= leaseUntil) loseAll(token)
    }
  }
}
