/** Runs claimed jobs: each in a fiber and a scope of its own, settled as it ends. Those without room wait. */
import { Cause, type Context, Effect, type Exit, type Fiber, Result } from "effect"
import type { JobContext, JobHandler } from "../Job.ts"
import { compile } from "./compiledJob.ts"
import type { OnEnd } from "./heldJobs.ts"
import { attemptsOf, cancelled, hopeless, reportOf, unknownKindMillis } from "./jobAttempt.ts"
import type { Holder } from "./jobHolder.ts"
import type { Pace } from "./jobPace.ts"
import { attempt, tracedAttempt } from "./jobRun.ts"
import type { Claim, Report } from "./queueEngine.ts"
import { hasTracer } from "./span.ts"

/** How many kinds of jobs without a handler are told of in the log, once each. */
const unknownKindsTold = 100
/** For how long jobs are started in a row. */
const sliceMillis = 4

/** Where jobs come from, and are reported to: a partition of the queue. */
export interface JobSource {
  readonly holder: Holder
  /** How many of its jobs wait for room. */
  waiting: number
  /** Those are about to go back, and do not start. */
  givesBack: boolean
  /** It brought jobs that nobody here has a handler for. */
  passedOn: boolean
}

interface Entry<R> {
  readonly claim: Claim
  readonly source: JobSource
  readonly handler: JobHandler<R>
  /** Undefined while it waits. */
  fiber: Fiber.Fiber<unknown, unknown> | undefined
  startedAt: number
  /** Why it was ended from outside. */
  end: Parameters<OnEnd>[0] | { readonly kind: "shutdown" } | undefined
}

export interface Runner {
  readonly running: () => number
  /** How many jobs wait for room. */
  readonly waiting: () => number
  readonly receive: (source: JobSource, claim: Claim) => OnEnd
  /** Starts those that wait, as far as there is room; false when it stopped so that others have their turn. */
  readonly startWaiting: () => boolean
  /** Gives back those from `source` that wait. */
  readonly giveBack: (source: JobSource) => void
  readonly interruptAll: () => void
  /** The event loop did not turn for so long. */
  readonly wasBlocked: (millis: number) => void
}

/** Runs claimed jobs, and settles them as they end. `onEnd` may be called from within `startWaiting`. */
export const makeRunner = <R>(
  queue: { readonly name: string },
  handlers: ReadonlyMap<string, JobHandler<R>>,
  context: Context.Context<R>,
  random: () => number,
  options: {
    readonly concurrency: number
    readonly leaseMillis: number
    readonly pace: Pace
    readonly onSlow: () => void
  },
  onEnd: (report: Report | undefined) => void
): Runner => {
  const running = new Set<Entry<R>>()
  let queued: Array<Entry<R>> = []
  let next = 0
  /** Those of sources that give back, as they came. */
  let aside: Array<Entry<R>> = []
  let waiting = 0
  let lastStartAt = 0
  let patient = false
  const unknownKinds = new Set<string>()
  /** What ended lately after it had let go of the event loop: one of these may have blocked it. */
  let lately: Array<Claim> = []
  let blockedToldAt = -Infinity
  const fork = Effect.runForkWith(context)
  const isTraced = hasTracer(context)
  const noHold: OnEnd = () => {}

  const start = (entry: Entry<R>, now: number): number => {
    const { claim, handler, source } = entry
    const record = claim.record!
    const { job } = handler
    const compiled = compile(job)
    const payload = compiled.payload.decode(record.payload)
    if (Result.isFailure(payload)) {
      entry.end = { kind: "shutdown" }
      settle(source, claim, hopeless(record.name, claim, { reason: "undecodable", message: payload.failure.message }))
      return now
    }
    const about: JobContext = {
      id: claim.id,
      queue: queue.name,
      attempt: record.failures + 1,
      attempts: attemptsOf(job, record),
      tenant: record.tenant,
      tags: record.meta.g ?? [],
      enqueuedAt: record.enqueuedAt,
      fencingToken: claim.token
    }
    entry.startedAt = now
    lastStartAt = now
    running.add(entry)
    const run = attempt(handler, payload.success, about, record.meta.t ?? compiled.timeoutMillis)
    const fiber = fork(isTraced ? tracedAttempt(run, about, record.meta.tp) : run)
    entry.fiber = fiber
    // It may have been cancelled from within itself.
    if (entry.end !== undefined) fiber.interruptUnsafe()
    const after = performance.now()
    if (after - now > options.leaseMillis / 3) tellOfBlock([claim], after - now)
    // What ended at once has been timed; the rest is when it ends.
    let endedAt = after
    fiber.addObserver((exit) => {
      running.delete(entry)
      if (endedAt === 0) {
        endedAt = performance.now()
        lately.push(claim)
        if (lately.length > 8) lately.shift()
      }
      options.pace.ended(endedAt - entry.startedAt)
      const interrupted = exit._tag === "Failure" && entry.end !== undefined
      if (!interrupted) {
        if (exit._tag === "Failure") tellOfDefect(exit, claim)
        settle(source, claim, reportOf(exit, job, record, compiled, random()))
      } else if (entry.end?.kind === "cancelled") settle(source, claim, cancelled(job, record, entry.end.reason))
      else if (entry.end?.kind === "shutdown") settle(source, claim, { kind: "release", delayMillis: 0 })
      else {
        fork(Effect.logWarning(`Job ${claim.id} of queue "${queue.name}" lost its lease and was interrupted`))
        onEnd(undefined)
      }
    })
    endedAt = 0
    return after
  }

  const end = (entry: Entry<R>, why: NonNullable<Entry<R>["end"]>) => {
    if (entry.end !== undefined) return
    entry.end = why
    if (entry.fiber !== undefined) entry.fiber.interruptUnsafe()
    else if (!running.has(entry)) {
      const { claim, handler, source } = entry
      waiting--
      source.waiting--
      if (why.kind === "cancelled") settle(source, claim, cancelled(handler.job, claim.record!, why.reason))
      else if (why.kind === "shutdown") settle(source, claim, { kind: "release", delayMillis: 0 })
    }
  }

  const giveBack = (source: JobSource) => {
    const all = [...aside, ...queued.slice(next)].filter((entry) => entry.source === source)
    aside = aside.filter((entry) => entry.source !== source)
    queued = queued.slice(next).filter((entry) => entry.source !== source)
    next = 0
    for (const entry of all) end(entry, { kind: "shutdown" })
  }

  // Jobs were claimed ahead as others were fast; when those turn out slow, somebody else may be idle.
  const watch = () => {
    if (patient) return
    patient = true
    const patience = options.pace.patience()
    fork(Effect.sleep(patience)).addObserver(() => {
      patient = false
      if (waiting === 0) return
      const stood = performance.now() - lastStartAt
      if (stood < patience) return watch()
      options.pace.stood(stood)
      options.onSlow()
    })
  }

  // A mistake in the handler: its place is in the stack, which is stored nowhere.
  const tellOfDefect = (exit: Exit.Failure<unknown, unknown>, claim: Claim) => {
    if (Cause.hasDies(exit.cause)) {
      fork(Effect.logError(`The handler of job ${claim.id} of queue "${queue.name}" died`, exit.cause))
    }
  }

  const tellOfBlock = (claims: ReadonlyArray<Claim>, millis: number) => {
    blockedToldAt = performance.now()
    const ids = claims.map(({ id }) => id)
    const which = ids.length === 1 ? `Job ${ids[0]}` : `One of the jobs ${ids.join(", ")}`
    fork(Effect.logWarning(
      `${which} of queue "${queue.name}" blocked the event loop for ${
        Math.round(millis)
      } ms, with a lease of ${options.leaseMillis} ms`
    ))
  }

  const settle = (source: JobSource, claim: Claim, report: Report) => {
    if (report.kind === "dead") {
      fork(Effect.logWarning(`Job ${claim.id} of queue "${queue.name}" failed for good, and is a dead letter`))
    }
    source.holder.settle(claim.id, claim.token, report)
    onEnd(report)
  }

  return {
    running: () => running.size,
    waiting: () => waiting,
    receive: (source, claim) => {
      if (claim.record === undefined) {
        settle(
          source,
          claim,
          hopeless("", claim, { reason: "undecodable", message: "its record is of an unknown version" })
        )
        return noHold
      }
      const name = claim.record.name || queue.name
      const handler = handlers.get(name)
      if (handler === undefined) {
        if (!unknownKinds.has(name) && unknownKinds.size < unknownKindsTold) {
          unknownKinds.add(name)
          fork(Effect.logWarning(`This worker of queue "${queue.name}" has no handler for its jobs named "${name}"`))
        }
        source.passedOn = true
        settle(source, claim, { kind: "release", delayMillis: unknownKindMillis })
        return noHold
      }
      const entry: Entry<R> = { claim, source, handler, fiber: undefined, startedAt: 0, end: undefined }
      queued.push(entry)
      waiting++
      source.waiting++
      return (why) => end(entry, why)
    },
    startWaiting: () => {
      if (waiting === 0) return true
      let now = performance.now()
      const until = now + sliceMillis
      while (next < queued.length && running.size < options.concurrency) {
        if (now > until) return false
        const entry = queued[next++]!
        if (entry.end !== undefined) continue
        if (entry.source.givesBack) aside.push(entry)
        else {
          waiting--
          entry.source.waiting--
          now = start(entry, now)
        }
      }
      if (next === queued.length) {
        queued = []
        next = 0
      } else watch()
      return true
    },
    giveBack,
    interruptAll: () => {
      for (const source of new Set([...aside, ...queued.slice(next)].map(({ source }) => source))) giveBack(source)
      for (const entry of running) end(entry, { kind: "shutdown" })
    },
    wasBlocked: (millis) => {
      const suspects = [...Array.from(running, ({ claim }) => claim), ...lately]
      lately = []
      // One that blocked it as it started has been told of.
      if (suspects.length > 0 && performance.now() - blockedToldAt > millis) tellOfBlock(suspects.slice(0, 8), millis)
    }
  }
}
