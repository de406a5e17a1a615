/** Works off one queue: claims as many jobs as there is room for, runs them, reports, and rests when there is nothing. */
import { Effect, type Fiber, Random, Result, Schedule, type Scope } from "effect"
import type { JobHandler } from "../Job.ts"
import { makeBell } from "./jobBell.ts"
import { type Holder, makeHolder } from "./jobHolder.ts"
import { type JobMonitor, makeJobMonitor } from "./jobMonitor.ts"
import { makeRunner } from "./jobRunner.ts"
import type { QueueEngine, QueueStore } from "./queueEngine.ts"

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
