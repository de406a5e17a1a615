/** Works off one queue: claims as many jobs as there is room for, runs them, reports, and rests when there is nothing. */
import { Cause, type Context, Effect, type Exit, type Fiber, Random, Result, Schedule, type Scope } from "effect"
import type { JobContext, JobHandler } from "../Job.ts"
import { compile } from "./compiledJob.ts"
import { attemptsOf, AttemptTimeout, cancelled, hopeless, reportOf } from "./jobAttempt.ts"
import { type HoldEnd, type Holder, makeHolder } from "./jobHolder.ts"
import { type JobMonitor, makeJobMonitor } from "./jobMonitor.ts"
import type { Claim, QueueEngine, QueueStore, Report } from "./queueEngine.ts"
import { traced } from "./span.ts"
import { spanOf } from "./traceContext.ts"

export interface LoopOptions {
  readonly concurrency: number
  readonly leaseMillis: number
  /** How long it rests at most before it looks again: covers a wake-up that was lost. */
  readonly pollMillis: number
  /** How long running jobs may go on when the worker closes. */
  readonly shutdownMillis: number
}

/** One queue's worker. */
export interface JobLoop {
  readonly running: () => number
  readonly setPaused: (paused: boolean) => void
}

// A job of a kind that this worker does not know waits for one that does, without being passed round in circles.
const unknownKindMillis = 1000
/** How many kinds of them are told of in the log, once each. */
const unknownKindsTold = 100
// As long as a command may take, and a reconnection after it: a worker that is silent for longer has stopped.
const silenceMillis = 10_000
/** How long it rests when nothing is lost on the way: it is woken for whatever there is. */
const longestRestMillis = 2 ** 31 - 1
const firstRetryMillis = 50
const lastRetryMillis = 2000
/** How long an idle worker that closes waits for the reply to its last step. */
const lastReplyMillis = 500
/** How long interrupted handlers get for their finalizers before the worker stops waiting for them. */
const finalizersMillis = 2000

interface Running {
  readonly fiber: Fiber.Fiber<unknown, unknown>
  end: HoldEnd | { readonly kind: "shutdown" } | undefined
}

/** Starts to work, until the scope closes: then it stops to claim, lets jobs end, and gives back what is left. */
export const startLoop = <R>(
  engine: QueueEngine,
  queue: { readonly name: string; readonly store: QueueStore },
  handlers: ReadonlyMap<string, JobHandler<R>>,
  options: LoopOptions
): Effect.Effect<JobLoop, never, R | Scope.Scope> =>
  Effect.gen(function*() {
    const context = yield* Effect.context<R>()
    const random = yield* Random.Random
    const holder = makeHolder(queue.store, engine.inbox.address, options.leaseMillis)
    const runner = makeRunner(holder, queue, handlers, context, () => random.nextDoubleUnsafe(), (report) => {
      if (report !== undefined) monitor.ended(report)
      bell.ring()
    })
    const bell = makeBell()
    const monitor: JobMonitor = yield* makeJobMonitor(
      engine,
      queue,
      3 * options.pollMillis + silenceMillis,
      () => runner.running()
    )
    const state = { paused: false, closing: false }

    const isIdle = () => runner.running() === 0 && !holder.hasReports()
    const isOver = () => state.closing && isIdle()

    const loop = Effect.gen(function*() {
      let retryMillis = firstRetryMillis
      let mayBeCalled = false
      while (!isOver()) {
        bell.reset()
        const want = state.closing || state.paused ? 0 : options.concurrency - runner.running()
        let rest = engine.losesLetters ? options.pollMillis : longestRestMillis
        if ((state.closing || state.paused) && mayBeCalled) {
          // Whoever rests, or is going, must not be called in place of one who can.
          mayBeCalled = false
          yield* Effect.ignore(queue.store.leave(holder.owner))
        }
        mayBeCalled ||= want > 0
        if (want > 0 || holder.hasReports()) {
          const sleepMillis = want > 0 ? options.pollMillis + lastRetryMillis : 0
          const reply = yield* Effect.result(holder.step(want, sleepMillis, runner.receive))
          if (Result.isFailure(reply)) {
            if (retryMillis === firstRetryMillis) {
              yield* Effect.logWarning(`Queue "${queue.name}" cannot be reached: ${reply.failure.message}`)
            }
            yield* Effect.sleep(retryMillis)
            retryMillis = Math.min(2 * retryMillis, lastRetryMillis)
            continue
          }
          if (retryMillis !== firstRetryMillis) {
            yield* Effect.logInfo(`Queue "${queue.name}" is reached again`)
            retryMillis = firstRetryMillis
          }
          const { claims, nextMillis } = reply.success
          yield* monitor.stepped(claims.length)
          if (holder.hasReports() || (want > 0 && claims.length === want)) continue
          rest = Math.min(rest, nextMillis ?? rest)
        } else {
          // Full, or paused: that is no reason to be called stuck.
          yield* monitor.stepped(0)
        }
        if (!isOver()) yield* bell.wait(rest)
      }
      if (mayBeCalled) yield* Effect.ignore(queue.store.leave(holder.owner))
    })

    yield* Effect.forkScoped(keepListening(engine, queue.store, holder, bell.ring))
    yield* Effect.forkScoped(holder.keep(Effect.sync(bell.ring)))
    const fiber = yield* Effect.forkScoped(loop)
    yield* Effect.addFinalizer(() =>
      Effect.promise(async () => {
        state.closing = true
        bell.ring()
        const ended = settled(fiber)
        // A step that is under way may bring jobs; when the server is away, there is no point in waiting for it.
        if (isIdle() && (await within(ended, lastReplyMillis) || isIdle())) return
        if (await within(ended, options.shutdownMillis)) return
        runner.interruptAll()
        await within(ended, finalizersMillis)
      })
    )
    return {
      running: runner.running,
      setPaused: (value) => {
        state.paused = value
        bell.ring()
      }
    }
  })

const settled = (fiber: Fiber.Fiber<unknown, unknown>): Promise<void> =>
  new Promise((resolve) => fiber.addObserver(() => resolve()))

// Real time: a shutdown must not wait for a test to move its clock.
const within = (promise: Promise<void>, millis: number): Promise<boolean> =>
  new Promise((resolve) => {
    const timer = setTimeout(() => resolve(false), millis)
    void promise.then(() => {
      clearTimeout(timer)
      resolve(true)
    })
  })

/** Wakes a loop that rests. Rung while it does not rest, it makes the next rest end at once. */
const makeBell = () => {
  let rung = false
  let wake: (() => void) | undefined
  return {
    reset: () => {
      rung = false
    },
    ring: () => {
      rung = true
      wake?.()
    },
    wait: (millis: number): Effect.Effect<void> =>
      Effect.suspend(() =>
        rung ? Effect.yieldNow : Effect.race(
          Effect.callback<void>((resume) => {
            wake = () => resume(Effect.void)
            // The race has begun only now, and it may have been rung since.
            if (rung) wake()
          }),
          Effect.sleep(millis)
        )
      )
  }
}

/** Letters for this queue; the subscription is tried until it stands, as polling covers for it. */
const keepListening = (engine: QueueEngine, store: QueueStore, holder: Holder, ring: () => void) => {
  const lookAround = () => {
    holder.askSoon()
    ring()
  }
  return engine.inbox.listen((letter) => {
    if (letter.queue === "") lookAround()
    else if (letter.queue !== store.address) return
    else if (letter.kind === "wake") ring()
    else if (letter.kind === "cancel") holder.cancel(letter.id, letter.reason)
  }).pipe(
    // What was said before anyone listened has not been heard.
    Effect.andThen(Effect.sync(lookAround)),
    Effect.andThen(Effect.never),
    Effect.scoped,
    Effect.tapError((error) => Effect.logWarning(`Workers cannot be woken up: ${error.message}`)),
    Effect.retry(Schedule.spaced("1 second"))
  )
}

/** Runs claimed jobs, and settles them as they end. */
const makeRunner = <R>(
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
