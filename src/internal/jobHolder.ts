/** Whoever holds jobs of one queue: claims them, keeps their leases, and settles them. */
import { Effect } from "effect"
import type { RedisError } from "../RedisError.ts"
import { type Held, makeHeldJobs, type OnEnd } from "./heldJobs.ts"
import { monotonicMillis } from "./monotonic.ts"
import type { Acknowledgement, Claim, Letter, QueueStore, Report, StepReply } from "./queueEngine.ts"

/** What one process holds of one queue. */
export interface Holder {
  /** What its claims are in the name of. */
  readonly owner: string
  readonly held: ReadonlyMap<string, Held>
  /** Claims up to `want` jobs, and `ahead` more, and sends what there is to report, in one call. */
  readonly step: (want: number, ahead: number, sleepMillis: number) => Effect.Effect<StepReply, RedisError>
  /** A job that was claimed for it while it slept; false when it has heard of that, or did not sleep. */
  readonly hand: (letter: Extract<Letter, { kind: "job" }>, nowMillis: number) => boolean
  /** Is called no more. What it was given without hearing of it goes to others. */
  readonly leave: Effect.Effect<void, RedisError>
  /** Says how a job ended; the next step reports it. Said again before it is known to have been heard, it is said once. */
  readonly settle: (id: string, token: number, report: Report, onReported?: (taken: boolean) => void) => void
  /** How much there is to report. */
  readonly reports: () => number
  /** Whether it is time to extend leases. */
  readonly isDue: () => boolean
  /** A job is to be cancelled; it may be one that a step under way is about to bring. */
  readonly cancel: (id: string, reason: string) => void
  /** Whether it holds a job that will be a dead letter if it dies, or may be about to. */
  readonly hasLastChance: () => boolean
  /** Gives up what is held by leases that have passed: this process may have stood still. */
  readonly giveUpLate: (nowMillis: number) => void
  /** Has the next step ask whether jobs are still held, or are to be cancelled. */
  readonly askSoon: () => void
  /**
   * Has `report` take a step that extends the leases, three times in each; ends those that have passed, when they do.
   * Tells when it could not for long, as something did not let it run.
   */
  readonly keep: (report: Effect.Effect<void>, onBlocked?: (millis: number) => void) => Effect.Effect<never>
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

/**
 * A holder in the name of `inbox`. `receive` is called with each job that it comes to hold. `mayTakeLastChance` tells
 * whether no other holder of whoever this one is for has a last chance: all of them die together.
 */
export const makeHolder = (
  store: QueueStore,
  inbox: string,
  leaseMillis: number,
  receive: (claim: Claim) => OnEnd,
  mayTakeLastChance: () => boolean = () => true
): Holder => {
  const owner = `${inbox} ${++holders} ${leaseMillis}`
  let onFirst: (() => void) | undefined
  const jobs = makeHeldJobs(store.maxCrashes, receive, () => onFirst?.())
  let settled: Array<Held> = []
  // Cancellations of jobs that are not held, or not yet: they may overtake the reply that brings the job.
  const early = new Map<string, { readonly reason: string; readonly after: number }>()
  // Requests that may have brought claims of which nothing has been heard, and when they were made.
  const unheard = new Map<string, number>()
  // Those of which a letter has told before their reply did.
  const heard = new Set<number>()
  let number = 0
  let answered = 0
  let underWay = 0
  /** The request that may bring a job that will be a dead letter if this process dies. */
  let lastChanceAskedBy: number | undefined
  let beatDue = false

  const takeSettled = () => {
    let count = 0
    let characters = 0
    for (const { report } of settled) {
      characters += lengthOf(report!)
      if (count === reportsAtMost || (count > 0 && characters > reportCharacters)) break
      count++
    }
    const taken = settled
    settled = taken.splice(count)
    return taken
  }
  const hasLastChance = () => jobs.hasLastChance() || lastChanceAskedBy !== undefined
  const accept = (claim: Claim, leaseUntil: number) => {
    const wish = jobs.accept(claim, leaseUntil) && early.size > 0 ? early.get(claim.id) : undefined
    if (wish !== undefined) jobs.end(claim.id, wish.reason)
  }
  const forgetOldRequests = (now: number) => {
    // Whatever they brought has passed its lease.
    for (const [request, at] of unheard) if (now - at > leaseMillis + leaseMillis) unheard.delete(request)
  }

  return {
    owner,
    held: jobs.byId,
    hasLastChance,
    giveUpLate: jobs.giveUpLate,
    reports: () => settled.length + (beatDue ? 1 : 0),
    isDue: () => beatDue,
    step: (want, ahead, sleepMillis) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.clockWith((clock) => {
          const sentAt = monotonicMillis(clock)
          const mine = ++number
          const ended = takeSettled()
          const extended = beatDue ? jobs.openBatches() : []
          beatDue = false
          const asked = [...unheard.keys()]
          const sleeps = want > 0 && sleepMillis > 0
          if (sleeps) unheard.set(`${mine}+`, sentAt)
          const takesLastChance = want > 0 && !hasLastChance() && mayTakeLastChance()
          if (takesLastChance) lastChanceAskedBy = mine
          underWay++
          const request = {
            owner,
            number: mine,
            unheard: asked,
            reports: ended.map(acknowledge),
            extend: extended.map(({ token }) => token),
            want,
            ahead,
            takesLastChance,
            leaseMillis,
            sleepMillis: sleeps ? sleepMillis : 0
          }
          return Effect.matchCauseEffect(restore(store.step(request)), {
            onFailure: (cause) => {
              underWay--
              answered = Math.max(answered, mine)
              heard.delete(mine)
              // A script that broke off keeps what it wrote.
              const notSent = cause.reasons.every((reason) =>
                reason._tag === "Fail" && reason.error.outcome === "NotSent"
              )
              if (notSent && lastChanceAskedBy === mine) lastChanceAskedBy = undefined
              if (notSent) unheard.delete(`${mine}+`)
              else unheard.set(String(mine), sentAt)
              forgetOldRequests(sentAt)
              // Not known to have been taken: said again with the next step, which changes nothing if it has been.
              for (const job of ended) job.mayBeReported ||= !notSent
              settled = [...ended, ...settled]
              beatDue ||= extended.length > 0
              return Effect.failCause(cause)
            },
            onSuccess: (reply) => {
              underWay--
              answered = Math.max(answered, mine)
              for (const request of asked) unheard.delete(request)
              // Until its reply is in, or it has been asked about.
              if (
                lastChanceAskedBy !== undefined && lastChanceAskedBy <= mine && !unheard.has(String(lastChanceAskedBy))
              ) lastChanceAskedBy = undefined
              // Also when it was forgotten: a call that was sent again may have come after a later one.
              if (reply.willCall && !heard.has(mine)) unheard.set(`${mine}+`, sentAt)
              else unheard.delete(`${mine}+`)
              heard.delete(mine)
              const refused = reply.refused.length === 0 ? undefined : new Set(reply.refused)
              for (let i = 0; i < ended.length; i++) {
                const job = ended[i]!
                // A job that was given back, and is not ours, has been given back.
                const taken = refused?.has(i) !== true || (job.mayBeReported && job.report!.kind === "release")
                jobs.drop(job, taken)
              }
              for (const batch of extended) batch.leaseUntil = sentAt + leaseMillis
              for (const token of reply.lost) jobs.loseAll(token)
              for (const claim of reply.claims) accept(claim, sentAt + leaseMillis)
              for (const { id, reason } of reply.cancels) jobs.end(id, reason)
              // Replies come in the order of calls.
              for (const [id, { after }] of early) if (after <= mine) early.delete(id)
              return Effect.succeed(reply)
            }
          })
        })
      ),
    hand: ({ claim, number }, now) => {
      if (!unheard.delete(`${number}+`)) return false
      if (answered < Number(number)) heard.add(Number(number))
      // How long the letter has travelled is not known; the first beat is before this.
      accept(claim, now + leaseMillis / 2)
      return true
    },
    leave: Effect.suspend(() => {
      const requestedAt = new Map(unheard)
      const asked = [...unheard.keys()]
      unheard.clear()
      return asked.length === 0 ? Effect.void : Effect.tapCause(store.leave(owner, asked), () =>
        Effect.sync(() => {
          for (const request of asked) unheard.set(request, requestedAt.get(request) ?? 0)
        }))
    }),
    settle: (id, token, report, onReported) => {
      const job = jobs.byId.get(id)
      if (
        job === undefined || job.claim.token !== token ||
        (job.report !== undefined && job.report.kind !== report.kind)
      ) {
        onReported?.(false)
        return
      }
      if (onReported !== undefined) (job.onReported ??= []).push(onReported)
      if (job.report !== undefined) return
      jobs.report(job, sound(report))
      settled.push(job)
    },
    cancel: (id, reason) => {
      if (jobs.byId.has(id)) jobs.end(id, reason)
      else if (underWay > 0) early.set(id, { reason, after: number })
    },
    askSoon: () => {
      beatDue ||= jobs.byId.size > 0
    },
    keep: (report, onBlocked) =>
      Effect.clockWith((clock) => {
        let due = 0
        const rest: Effect.Effect<void> = Effect.suspend(() => {
          due = 0
          // With nothing to keep there is nothing to do, for however long.
          if (jobs.byId.size === 0) {
            return Effect.callback<void>((resume) => {
              onFirst = () => {
                onFirst = undefined
                resume(rest)
              }
            })
          }
          const now = monotonicMillis(clock)
          let millis = leaseMillis / 3
          for (const { leaseUntil } of jobs.openBatches()) millis = Math.min(millis, leaseUntil - now)
          due = now + Math.max(1, millis)
          return Effect.sleep(Math.max(1, millis))
        })
        const beat = Effect.suspend(() => {
          const now = monotonicMillis(clock)
          if (due !== 0 && now - due > leaseMillis / 3) onBlocked?.(now - due)
          jobs.giveUpLate(now)
          beatDue ||= jobs.openBatches().length > 0
          return beatDue ? report : Effect.void
        })
        return Effect.forever(Effect.andThen(rest, beat))
      })
  }
}

const acknowledge = ({ claim, report }: Held): Acknowledgement => ({
  id: claim.id,
  token: claim.token,
  tenant: claim.record?.tenant,
  report: report!
})
