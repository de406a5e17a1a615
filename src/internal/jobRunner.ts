/** Runs claimed jobs: each in a fiber and a scope of its own, settled as it ends. */
import { Cause, type Context, Effect, type Exit, type Fiber, Result } from "effect"
import type { JobContext, JobHandler } from "../Job.ts"
import { compile } from "./compiledJob.ts"
import { attemptsOf, AttemptTimeout, cancelled, hopeless, reportOf, unknownKindMillis } from "./jobAttempt.ts"
import type { HoldEnd, Holder } from "./jobHolder.ts"
import type { Claim, Report } from "./queueEngine.ts"
import { traced } from "./span.ts"
import { spanOf } from "./traceContext.ts"

/** How many kinds of jobs without a handler are told of in the log, once each. */
const unknownKindsTold = 100

interface Running {
  readonly fiber: Fiber.Fiber<unknown, unknown>
  end: HoldEnd | { readonly kind: "shutdown" } | undefined
}

/** Runs claimed jobs, and settles them as they end. */
export const makeRunner = <R>(
  holder: Holder,
  queue: { readonly name: string },
  handlers: ReadonlyMap<string, JobHandler<R>>,
  context: Context.Context<R>,
  random: () => number,
  onEnd: (report: Report | undefined) => void
) => {
  const running = new Set<Running>()
  const unknownKinds = new Set<string>()
  const fork = Effect.runForkWith(context)
  const noHold = () => {}

  const run = (claim: Claim, handler: JobHandler<R>): (why: HoldEnd) => void => {
    const record = claim.record!
    const { job } = handler
    const compiled = compile(job)
    const payload = compiled.payload.decode(record.payload)
    if (Result.isFailure(payload)) {
      settle(claim, hopeless(record.name, claim, { reason: "undecodable", message: payload.failure.message }))
      return noHold
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
    const fiber = fork(attempt(handler, payload.success, about, record.meta.t, record.meta.tp))
    const entry: Running = { fiber, end: undefined }
    running.add(entry)
    fiber.addObserver((exit) => {
      running.delete(entry)
      const interrupted = exit._tag === "Failure" && entry.end !== undefined
      if (!interrupted) {
        tellOfDefect(exit, claim)
        settle(claim, reportOf(exit, job, record, compiled, random()))
      } else if (entry.end?.kind === "cancelled") settle(claim, cancelled(job, record, entry.end.reason))
      else if (entry.end?.kind === "shutdown") settle(claim, { kind: "release", delayMillis: 0 })
      else {
        fork(Effect.logWarning(`Job ${claim.id} of queue "${queue.name}" lost its lease and was interrupted`))
        onEnd(undefined)
      }
    })
    return (why) => interrupt(entry, why)
  }

  const interrupt = (entry: Running, why: NonNullable<Running["end"]>) => {
    entry.end ??= why
    entry.fiber.interruptUnsafe()
  }

  // A mistake in the handler: its place is in the stack, which is stored nowhere.
  const tellOfDefect = (exit: Exit.Exit<unknown, unknown>, claim: Claim) => {
    if (exit._tag === "Failure" && Cause.hasDies(exit.cause)) {
      fork(Effect.logError(`The handler of job ${claim.id} of queue "${queue.name}" died`, exit.cause))
    }
  }

  const settle = (claim: Claim, report: Report) => {
    if (report.kind === "dead") {
      fork(Effect.logWarning(`Job ${claim.id} of queue "${queue.name}" failed for good, and is a dead letter`))
    }
    holder.settle(claim.id, claim.token, report)
    onEnd(report)
  }

  return {
    running: () => running.size,
    receive: (claim: Claim): (why: HoldEnd) => void => {
      if (claim.record === undefined) {
        settle(claim, hopeless("", claim, { reason: "undecodable", message: "its record is of an unknown version" }))
        return noHold
      }
      const name = claim.record.name || queue.name
      const handler = handlers.get(name)
      if (handler === undefined) {
        if (!unknownKinds.has(name) && unknownKinds.size < unknownKindsTold) {
          unknownKinds.add(name)
          fork(Effect.logWarning(`This worker of queue "${queue.name}" has no handler for its jobs named "${name}"`))
        }
        settle(claim, { kind: "release", delayMillis: unknownKindMillis })
        return noHold
      }
      return run(claim, handler)
    },
    interruptAll: () => {
      for (const entry of running) interrupt(entry, { kind: "shutdown" })
    }
  }
}

/** One run of a handler, with a scope of its own, a timeout if there is one, and a span if someone listens. */
const attempt = <R>(
  handler: JobHandler<R>,
  payload: unknown,
  about: JobContext,
  timeoutMillis: number | undefined,
  traceparent: string | undefined
): Effect.Effect<unknown, unknown, R> => {
  const millis = timeoutMillis ?? compile(handler.job).timeoutMillis
  const run = Effect.scoped(Effect.suspend(() => handler.run(payload, about)))
  const limited = millis === undefined
    ? run
    : Effect.timeoutOrElse(run, { duration: millis, orElse: () => Effect.fail(new AttemptTimeout(millis)) })
  const producer = traceparent === undefined ? undefined : spanOf(traceparent)
  return traced(
    limited,
    `process ${about.queue}`,
    "consumer",
    () => ({
      "messaging.system": "redis",
      "messaging.operation.type": "process",
      "messaging.destination.name": about.queue,
      "messaging.message.id": about.id
    }),
    producer === undefined ? [] : [{ span: producer, attributes: {} }]
  )
}
