/** Whoever holds jobs of one queue: claims them, keeps their leases, and settles them. */
import { Clock, Effect } from "effect"
import type { RedisError } from "../RedisError.ts"
import type { Acknowledgement, Claim, QueueStore, Report, StepReply } from "./queueEngine.ts"

/** A job that is held. */
export interface Held {
  readonly claim: Claim
  /** When the lease surely has not passed yet: counted from before the last step that gave it was sent. */
  leaseUntil: number
  /** Called when the lease is lost, or the job is to be cancelled. */
  onEnd: (why: HoldEnd) => void
  /** What is to be reported; the job is no longer held once that has been taken. */
  report: Report | undefined
  /** Told when a report was taken, or refused. */
  onReported: ((taken: boolean) => void) | undefined
}

export type HoldEnd = { readonly kind: "lost" } | { readonly kind: "cancelled"; readonly reason: string }

/** What one process holds of one queue. */
export interface Holder {
  readonly held: ReadonlyMap<string, Held>
  /** Claims up to `want` jobs and sends what there is to report, in one call. */
  readonly step: (
    want: number,
    sleepMillis: number,
    receive: (claim: Claim) => Held["onEnd"]
  ) => Effect.Effect<StepReply, RedisError>
  /** Says how a job ended; the next step reports it. */
  readonly settle: (id: string, token: number, report: Report, onReported?: (taken: boolean) => void) => void
  /** Whether there is something to report. */
  readonly hasReports: () => boolean
  /** Marks leases for extension by the next step; ends those that have passed. Yields whether there are any. */
  readonly beat: Effect.Effect<boolean>
}

/** How many reports go with one step. */
const reportsAtMost = 500

/** A holder; `owner` is the inbox that its claims are in the name of. */
export const makeHolder = (store: QueueStore, owner: string, leaseMillis: number): Holder => {
  const held = new Map<string, Held>()
  const settled: Array<Held> = []
  let beatDue = false

  const drop = (job: Held, taken: boolean) => {
    if (held.get(job.claim.id) === job) held.delete(job.claim.id)
    job.onReported?.(taken)
  }

  return {
    held,
    hasReports: () => settled.length > 0 || beatDue,
    step: (want, sleepMillis, receive) =>
      Effect.flatMap(Clock.currentTimeMillis, (sentAt) => {
        const ended = settled.splice(0, reportsAtMost)
        const reports: Array<Acknowledgement> = ended.map((job) => acknowledge(job, job.report!))
        const extended: Array<Held> = []
        if (beatDue) {
          beatDue = false
          for (const job of held.values()) {
            if (job.report !== undefined || reports.length >= reportsAtMost) continue
            extended.push(job)
            reports.push(acknowledge(job, { kind: "extend" }))
          }
        }
        return Effect.map(
          Effect.tapCause(store.step({ owner, reports, want, leaseMillis, sleepMillis }), () =>
            Effect.sync(() => {
              // Not known to have been taken: said again with the next step, which changes nothing if it has been.
              settled.unshift(...ended)
              beatDue ||= extended.length > 0
            })),
          (reply) => {
            const refused = new Set(reply.refused)
            for (const job of ended) drop(job, !refused.has(job.claim.id))
            for (const job of extended) {
              if (!refused.has(job.claim.id)) job.leaseUntil = sentAt + leaseMillis
              else if (held.get(job.claim.id) === job) {
                held.delete(job.claim.id)
                job.onEnd({ kind: "lost" })
              }
            }
            for (const { id, reason } of reply.cancels) held.get(id)?.onEnd({ kind: "cancelled", reason })
            for (const claim of reply.claims) {
              const job: Held = {
                claim,
                leaseUntil: sentAt + leaseMillis,
                onEnd: () => {},
                report: undefined,
                onReported: undefined
              }
              // Before `receive`: a handler that is done at once settles it there.
              held.set(claim.id, job)
              job.onEnd = receive(claim)
            }
            return reply
          }
        )
      }),
    settle: (id, token, report, onReported) => {
      const job = held.get(id)
      if (job === undefined || job.claim.token !== token || job.report !== undefined) {
        onReported?.(false)
        return
      }
      job.report = report
      job.onReported = onReported
      settled.push(job)
    },
    beat: Effect.map(Clock.currentTimeMillis, (now) => {
      for (const job of [...held.values()]) {
        if (job.report !== undefined) continue
        if (now < job.leaseUntil) beatDue = true
        else {
          held.delete(job.claim.id)
          job.onEnd({ kind: "lost" })
        }
      }
      return beatDue
    })
  }
}

const acknowledge = ({ claim }: Held, report: Report): Acknowledgement => ({
  id: claim.id,
  token: claim.token,
  tenant: claim.record?.tenant,
  report
})
