/** Whoever holds jobs of one queue: claims them, keeps their leases, and settles them. */
import { Effect } from "effect"
import type { RedisError } from "../RedisError.ts"
import { monotonicMillis } from "./monotonic.ts"
import type { Acknowledgement, Claim, QueueStore, Report, StepReply } from "./queueEngine.ts"

/** A job that is held. */
export interface Held {
  readonly claim: Claim
  /** Until when the lease surely lasts, in monotonic time: counted from before the last step that gave it was sent. */
  leaseUntil: number
  /** Called when the lease is lost, or the job is to be cancelled. */
  onEnd: (why: HoldEnd) => void
  /** What is to be reported; the job is no longer held once that has been taken. */
  report: Report | undefined
  /** Told when the report was taken, or refused. */
  readonly onReported: Array<(taken: boolean) => void>
}

export type HoldEnd = { readonly kind: "lost" } | { readonly kind: "cancelled"; readonly reason: string }

/** What one process holds of one queue. */
export interface Holder {
  /** What its claims are in the name of. */
  readonly owner: string
  readonly held: ReadonlyMap<string, Held>
  /** Claims up to `want` jobs and sends what there is to report, in one call. */
  readonly step: (
    want: number,
    sleepMillis: number,
    receive: (claim: Claim) => Held["onEnd"]
  ) => Effect.Effect<StepReply, RedisError>
  /** Says how a job ended; the next step reports it. Said again before it is known to have been heard, it is said once. */
  readonly settle: (id: string, token: number, report: Report, onReported?: (taken: boolean) => void) => void
  /** Whether there is something to report. */
  readonly hasReports: () => boolean
  /** A job is to be cancelled; it may be one that a step under way is about to bring. */
  readonly cancel: (id: string, reason: string) => void
  /** Has the next step ask whether jobs are still held, or are to be cancelled. */
  readonly askSoon: () => void
  /** Has `report` take a step that extends the leases, three times in each; ends those that have passed, when they do. */
  readonly keep: (report: Effect.Effect<void>) => Effect.Effect<never>
}

/** How many reports go with one step. */
const reportsAtMost = 500
/** How long results are together that go with one step, unless a single one is longer: they hold up the server. */
const reportCharacters = 4 * 1024 * 1024

// Later than this no date can be written; a sum of two such is still a whole number.
const maxDelayMillis = 4e15

/** A report that any engine can take: a delay that cannot be waited for is none, or as long as one can be. */
const sound = (report: Report): Report =>
  report.kind === "retry" || report.kind === "release"
    ? { ...report, delayMillis: report.delayMillis > 0 ? Math.min(report.delayMillis, maxDelayMillis) : 0 }
    : report

const lengthOf = (report: Report): number =>
  "outcome" in report ? report.outcome.length : report.kind === "retry" ? report.failure.length : 0

let holders = 0

/** A holder in the name of `inbox`. */
export const makeHolder = (store: QueueStore, inbox: string, leaseMillis: number): Holder => {
  const owner = `${inbox} ${++holders}`
  const held = new Map<string, Held>()
  const settled: Array<Held> = []
  // Cancellations of jobs that are not held, or not yet: they may overtake the reply that brings the job.
  const early = new Map<string, string>()
  let underWay = 0
  let beatDue = false
  let onFirst: (() => void) | undefined

  const takeSettled = () => {
    let count = 0
    let characters = 0
    for (const { report } of settled) {
      characters += lengthOf(report!)
      if (count === reportsAtMost || (count > 0 && characters > reportCharacters)) break
      count++
    }
    return settled.splice(0, count)
  }
  const drop = (job: Held, taken: boolean) => {
    if (held.get(job.claim.id) === job) held.delete(job.claim.id)
    for (const tell of job.onReported) tell(taken)
  }
  const lose = (job: Held) => {
    held.delete(job.claim.id)
    job.onEnd({ kind: "lost" })
  }

  return {
    owner,
    held,
    hasReports: () => settled.length > 0 || beatDue,
    step: (want, sleepMillis, receive) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.clockWith((clock) => {
          const sentAt = monotonicMillis(clock)
          const ended = takeSettled()
          const reports: Array<Acknowledgement> = ended.map((job) => acknowledge(job, job.report!))
          const extended: Array<Held> = []
          if (beatDue) {
            beatDue = false
            for (const job of held.values()) {
              if (job.report !== undefined) continue
              extended.push(job)
              reports.push(acknowledge(job, { kind: "extend" }))
            }
          }
          underWay++
          return Effect.matchCauseEffect(restore(store.step({ owner, reports, want, leaseMillis, sleepMillis })), {
            onFailure: (cause) => {
              underWay--
              // Not known to have been taken: said again with the next step, which changes nothing if it has been.
              settled.unshift(...ended)
              beatDue ||= extended.length > 0
              return Effect.failCause(cause)
            },
            onSuccess: (reply) => {
              underWay--
              const refused = new Set(reply.refused)
              ended.forEach((job, i) => drop(job, !refused.has(i)))
              extended.forEach((job, i) => {
                if (!refused.has(ended.length + i)) job.leaseUntil = sentAt + leaseMillis
                else if (held.get(job.claim.id) === job) lose(job)
              })
              for (const { id, reason } of reply.cancels) held.get(id)?.onEnd({ kind: "cancelled", reason })
              for (const claim of reply.claims) {
                const job: Held = {
                  claim,
                  leaseUntil: sentAt + leaseMillis,
                  onEnd: () => {},
                  report: undefined,
                  onReported: []
                }
                // Before `receive`: a handler that is done at once settles it there.
                held.set(claim.id, job)
                onFirst?.()
                job.onEnd = receive(claim)
                const reason = early.get(claim.id)
                if (reason !== undefined) job.onEnd({ kind: "cancelled", reason })
              }
              if (underWay === 0) early.clear()
              return Effect.succeed(reply)
            }
          })
        })
      ),
    settle: (id, token, report, onReported) => {
      const job = held.get(id)
      if (
        job === undefined || job.claim.token !== token ||
        (job.report !== undefined && job.report.kind !== report.kind)
      ) {
        onReported?.(false)
        return
      }
      if (onReported !== undefined) job.onReported.push(onReported)
      if (job.report !== undefined) return
      job.report = sound(report)
      settled.push(job)
    },
    cancel: (id, reason) => {
      const job = held.get(id)
      if (job !== undefined) job.onEnd({ kind: "cancelled", reason })
      else if (underWay > 0) early.set(id, reason)
    },
    askSoon: () => {
      beatDue ||= held.size > 0
    },
    keep: (report) =>
      Effect.clockWith((clock) => {
        const rest = Effect.suspend(() => {
          // With nothing to keep there is nothing to do, for however long.
          if (held.size === 0) {
            return Effect.callback<void>((resume) => {
              onFirst = () => {
                onFirst = undefined
                resume(Effect.void)
              }
            })
          }
          const now = monotonicMillis(clock)
          let millis = leaseMillis / 3
          for (const job of held.values()) {
            if (job.report === undefined) millis = Math.min(millis, job.leaseUntil - now)
          }
          return Effect.sleep(Math.max(1, millis))
        })
        const beat = Effect.suspend(() => {
          const now = monotonicMillis(clock)
          for (const job of [...held.values()]) {
            if (job.report !== undefined) continue
            if (now < job.leaseUntil) beatDue = true
            else lose(job)
          }
          return beatDue ? report : Effect.void
        })
        return Effect.forever(Effect.andThen(rest, beat))
      })
  }
}

const acknowledge = ({ claim }: Held, report: Report): Acknowledgement => ({
  id: claim.id,
  token: claim.token,
  tenant: claim.record?.tenant,
  report
})
