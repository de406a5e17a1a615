/** The step of a queue in this process: reports, what is due, what was lost, what is old, claims. */
import type { Acknowledgement, Claim, QueueSettings, StepReply, StepRequest } from "./queueEngine.ts"
import { byDueTime, byLease, type MemoryState, type Note } from "./queueMemoryState.ts"
import { type Outcome, readFailure, readOutcome, type StoredFailure, writeOutcome } from "./queueRecord.ts"

/** What the step script does, in its order. */
export const makeMemoryStep = (state: MemoryState, settings: QueueSettings) => {
  const {
    jobs,
    outcomes,
    endedBy,
    dead,
    delayed,
    active,
    ready,
    finished,
    flags,
    forget,
    move,
    wake,
    push,
    pushFronts,
    putBack,
    finish,
    cancelled
  } = state
  const outcomeOf = (letter: string, nowMillis: number, text: string): Outcome =>
    readOutcome(`${letter};${nowMillis};0;${text}`)!

  /** Applies a report; yields false when it comes too late. */
  const apply = (
    { id, report, tenant, token }: Acknowledgement,
    request: StepRequest,
    nowMillis: number,
    note: Note
  ) => {
    const job = jobs.get(id)
    if (job?.holder === undefined || job.holder.token !== token || job.holder.owner !== request.owner) {
      if (report.kind === "release") return false
      if (report.kind === "retry" && job?.failure !== undefined && job.failedBy === token) return true
      return endedBy.get(id) === token
    }
    switch (report.kind) {
      case "complete":
        finish(id, job, outcomeOf("c", nowMillis, report.outcome))
        note("completed", id, tenant)
        return true
      case "dead":
        finish(id, job, outcomeOf("f", nowMillis, report.outcome))
        note("failed", id, tenant)
        return true
      case "cancelled":
        finish(id, job, outcomeOf("x", nowMillis, report.outcome))
        note("cancelled", id, tenant)
        return true
      case "retry":
        if (job.cancel !== undefined) cancelled(id, job, job.cancel, nowMillis, note)
        else {
          job.record = { ...job.record, failures: job.record.failures + 1 }
          job.failure = readFailure(report.failure)
          job.failedBy = token
          putBack(id, job, nowMillis, report.delayMillis, false)
          note("retrying", id, tenant)
        }
        return true
      case "release":
        if (job.cancel !== undefined) cancelled(id, job, job.cancel, nowMillis, note)
        else {
          putBack(id, job, nowMillis, report.delayMillis, true)
          note("released", id, tenant)
        }
        return true
    }
  }

  /** Applies all reports, and tells which came too late. Completed jobs end first, as the script ends them together. */
  const applyAll = (request: StepRequest, nowMillis: number, note: Note): ReadonlyArray<number> => {
    const isCompleted = ({ report }: Acknowledgement) => report.kind === "complete"
    const { reports } = request
    const inOrder = [...reports.filter(isCompleted), ...reports.filter((report) => !isCompleted(report))]
    const late = new Set(inOrder.filter((report) => !apply(report, request, nowMillis, note)))
    return reports.flatMap((report, i) => late.has(report) ? [i] : [])
  }

  const promoteDue = (nowMillis: number) => {
    const due = byDueTime([...delayed].filter(([, job]) => job.dueAt <= nowMillis))
    for (const id of due) push(id, jobs.get(id)!, false)
    return due.length
  }

  const takeBackLost = (nowMillis: number, note: Note) => {
    for (const id of byLease([...active].filter(([, job]) => job.leaseUntil <= nowMillis))) {
      const job = jobs.get(id)!
      job.holder = undefined
      const crashes = job.record.crashes + 1
      const { name, tenant } = job.record
      if (job.cancel !== undefined) cancelled(id, job, job.cancel, nowMillis, note)
      else if (crashes >= settings.maxCrashes) {
        job.record = { ...job.record, crashes }
        const failure: StoredFailure = {
          reason: "crashed",
          message: `its worker died, or lost its lease, ${crashes} times`
        }
        const text = writeOutcome(job.record.failures + 1, tenant, name, JSON.stringify(failure))
        finish(id, job, outcomeOf("f", nowMillis, text))
        note("failed", id, tenant)
      } else {
        job.record = { ...job.record, crashes }
        putBack(id, job, nowMillis, 0, true)
        note("stalled", id, tenant)
      }
    }
  }

  const sweep = (nowMillis: number) => {
    while (finished.length > 0) {
      const outcome = outcomes.get(finished[0]!)
      const old = outcome === undefined || outcome.finishedAt <= nowMillis - settings.outcomeMillis ||
        finished.length > settings.outcomeCount
      if (!old) break
      forget(finished.shift()!)
    }
    for (const id of dead) {
      if (outcomes.get(id)!.finishedAt > nowMillis - settings.deadMillis) break
      forget(id)
      jobs.delete(id)
    }
  }

  const claim = (request: StepRequest, nowMillis: number, note: Note): ReadonlyArray<Claim> => {
    const claims: Array<Claim> = []
    const most = request.want + request.ahead
    let { takesLastChance } = request
    if (flags.paused || most === 0) return claims
    for (const list of ready) {
      while (list.length > 0 && claims.length < most) {
        const id = list[0]!
        const job = jobs.get(id)!
        // It may be what kills its holders: it does not wait where it could be counted as dead with another one.
        if (claims.length >= request.want && job.record.crashes > 0) return claims
        list.shift()
        if (job.record.crashes > 0 && job.record.crashes + 1 >= settings.maxCrashes) {
          if (!takesLastChance) {
            move(id, job, "delayed")
            job.dueAt = nowMillis + settings.lastChanceMillis
            continue
          }
          takesLastChance = false
        }
        if (claims.length === 0) flags.token++
        move(id, job, "active")
        job.leaseUntil = nowMillis + request.leaseMillis
        const { token } = flags
        job.holder = { token, owner: request.owner }
        claims.push({ id, token, record: job.record })
        note("active", id, job.record.tenant)
      }
    }
    return claims
  }

  /** Extends the claims that are kept; yields those that are not, and which of their jobs are to be cancelled. */
  const extend = (request: StepRequest, nowMillis: number) => {
    const cancels: Array<{ readonly id: string; readonly reason: string }> = []
    const kept = new Set<number>()
    if (request.extend.length > 0) {
      for (const [id, job] of active) {
        const { holder } = job
        if (holder?.owner !== request.owner || !request.extend.includes(holder.token)) continue
        kept.add(holder.token)
        job.leaseUntil = nowMillis + request.leaseMillis
        if (job.cancel !== undefined) cancels.push({ id, reason: job.cancel })
      }
    }
    return { cancels, lost: request.extend.filter((token) => !kept.has(token)) }
  }

  const step = (request: StepRequest, nowMillis: number, note: Note): StepReply => {
    const refused = applyAll(request, nowMillis, note)
    pushFronts()
    const { cancels, lost } = extend(request, nowMillis)
    const promoted = promoteDue(nowMillis)
    takeBackLost(nowMillis, note)
    pushFronts()
    sweep(nowMillis)
    const claims = claim(request, nowMillis, note)
    if (promoted > claims.length) wake()
    const willCall = request.sleepMillis > 0 && claims.length < request.want
    let next = Infinity
    if (willCall) {
      flags.sleeping = true
      for (const job of delayed.values()) next = Math.min(next, job.dueAt)
      for (const job of active.values()) next = Math.min(next, job.leaseUntil)
    }
    const nextMillis = next < Infinity ? Math.max(0, next - nowMillis) : undefined
    return { claims, refused, lost, cancels, paused: flags.paused, willCall, nextMillis }
  }

  return step
}
