/** Works off one queue: claims as many jobs as it can run, has them run, reports, and rests when there is nothing. */
import { Clock, Effect, type Exit, type Fiber, Random, type Scope } from "effect"
import type { JobHandler } from "../Job.ts"
import type { RedisError } from "../RedisError.ts"
import { type Holder, makeHolder } from "./jobHolder.ts"
import { keepListening } from "./jobListening.ts"
import { type JobMonitor, makeJobMonitor } from "./jobMonitor.ts"
import { makePace } from "./jobPace.ts"
import { makeRunner, type Runner } from "./jobRunner.ts"
import { monotonicMillis } from "./monotonic.ts"
import type { Letter, QueueEngine, QueueStore, StepReply } from "./queueEngine.ts"
import { onSecondSignal } from "./secondSignal.ts"
import { within } from "./within.ts"

export interface LoopOptions {
  readonly concurrency: number
  /** How many jobs it claims ahead at most. */
  readonly prefetch: number
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
/** How many jobs are claimed by one call at most. */
const claimAtMost = 500
/** For how long it works in a row before others on this thread have their turn. */
const sliceMillis = 4
/** How many reports are worth a call of their own while another one is on its way. */
const manyReports = 100
/** How much later than others a worker looks for jobs that it has no handler for. */
const afterOthersMillis = 20
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
    const clock = yield* Clock.Clock
    const random = yield* Random.Random
    const fork = Effect.runForkWith(context)
    const pace = makePace(options.concurrency, engine.isRemote ? options.prefetch : 0)
    const holder: Holder = makeHolder(
      queue.store,
      engine.inbox.addressOf(queue.store.address),
      options.leaseMillis,
      (claim) => runner.receive(claim)
    )
    const runner: Runner = makeRunner(
      holder,
      queue,
      handlers,
      context,
      () => random.nextDoubleUnsafe(),
      {
        concurrency: options.concurrency,
        leaseMillis: options.leaseMillis,
        pace,
        onSlow: () => {
          state.givesBack = true
          turn()
        }
      },
      (report) => {
        if (report !== undefined) monitor.ended(report)
        turn()
      }
    )
    const monitor: JobMonitor = yield* makeJobMonitor(
      engine,
      queue,
      3 * options.pollMillis + silenceMillis,
      () => runner.running()
    )

    const longestRest = engine.isRemote ? options.pollMillis : longestRestMillis
    const underWay = new Set<Fiber.Fiber<unknown, unknown>>()
    const state = {
      paused: false,
      closing: false,
      over: false,
      /** The queue was paused after so many calls: what they bring is not to start. */
      queuePausedAfter: -1,
      /** How many jobs calls on their way may bring. */
      asked: 0,
      /** How often it has called. */
      calls: 0,
      /** The last call found as many jobs as it asked for, so that there may be more. */
      foundMore: false,
      /** The queue calls as soon as there are jobs. */
      isCalled: false,
      /** How often it was called: what a reply says of that may be older than the last time. */
      timesCalled: 0,
      /** Someone may call it, so that it has to leave before it closes. */
      mayBeCalled: false,
      /** It does not call, as it has just failed to. */
      isAway: false,
      /** What waits goes back, together with what calls on their way bring, so that all keep their order. */
      givesBack: false,
      retryMillis: firstRetryMillis,
      restMillis: longestRest,
      lateMillis: 0
    }
    let rest: { readonly due: number; readonly fiber: Fiber.Fiber<void> } | undefined
    let turning = false
    let more = false
    let onOver: (() => void) | undefined

    const works = () => !(state.paused || state.closing)
    const mayClaimAhead = () => works() && state.queuePausedAfter < 0
    const isIdle = () => runner.running() === 0 && runner.waiting() === 0 && holder.reports() === 0
    /** How many jobs could start at once if they were here, and how many more may be claimed. */
    const room = () => {
      if (!works() || state.givesBack) return { want: 0, ahead: 0, total: 0 }
      const taken = runner.running() + runner.waiting() + state.asked
      const ahead = mayClaimAhead() ? pace.ahead() : 0
      const total = options.concurrency + ahead
      // In two calls that take turns, so that one is answered while the jobs of the other one run.
      const most = Math.min(ahead > 0 ? Math.ceil(total / 2) : total, total - taken, claimAtMost)
      const want = Math.max(0, Math.min(options.concurrency - taken, most))
      return { want, ahead: Math.max(0, most - want), total }
    }

    /** Calls, if there is something to call for. */
    const callIfUseful = (): boolean => {
      const reports = holder.reports()
      const { ahead, total, want } = room()
      // Worth a call: enough of what it claims ahead has been started since.
      const low = ahead > 0 && ahead >= total / 4 && state.foundMore
      const useful = underWay.size === 0
        ? reports > 0 || (want > 0 && !state.isCalled) || low
        : underWay.size === 1 && engine.isRemote && (reports >= manyReports || low)
      if (useful) call(want, ahead)
      return useful
    }

    const forkCall = <A>(
      effect: Effect.Effect<A, RedisError>,
      onExit: (exit: Exit.Exit<A, RedisError>) => void
    ) => {
      const fiber = fork(effect)
      underWay.add(fiber)
      fiber.addObserver((exit) => {
        underWay.delete(fiber)
        if (!state.over) onExit(exit)
      })
    }

    const call = (want: number, ahead: number) => {
      const number = ++state.calls
      const asked = want + ahead
      const sentAt = performance.now()
      const { timesCalled } = state
      state.asked += asked
      state.mayBeCalled ||= want > 0
      forkCall(holder.step(want, ahead, want > 0 ? options.pollMillis + lastRetryMillis : 0), (exit) => {
        state.asked -= asked
        if (exit._tag === "Success") {
          pace.called(performance.now() - sentAt)
          state.isCalled = exit.value.willCall && state.timesCalled === timesCalled
          replied(number, asked, exit.value)
        } else failed(exit)
      })
    }

    const replied = (number: number, asked: number, reply: StepReply) => {
      if (state.retryMillis !== firstRetryMillis) {
        fork(Effect.logInfo(`Queue "${queue.name}" is reached again`))
        state.retryMillis = firstRetryMillis
      }
      monitor.stepped(reply.claims.length)
      state.foundMore = asked > 0 ? reply.claims.length >= asked || reply.nextMillis === 0 : state.foundMore
      state.restMillis = Math.min(longestRest, reply.nextMillis ?? Infinity)
      // Those who may have a handler for it go first when it is due again.
      if (runner.passedOn()) state.lateMillis = afterOthersMillis
      if (reply.paused || number > state.queuePausedAfter) {
        state.queuePausedAfter = reply.paused ? Math.max(number, state.queuePausedAfter) : -1
      }
      turn()
    }

    const failed = (exit: Exit.Failure<unknown, RedisError>) => {
      state.isCalled = false
      if (state.isAway) return
      state.isAway = true
      if (state.retryMillis === firstRetryMillis) {
        const reason = exit.cause.reasons.find((reason) => reason._tag === "Fail")
        fork(Effect.logWarning(`Queue "${queue.name}" cannot be reached: ${reason?.error.message ?? "interrupted"}`))
      }
      forkCall(Effect.sleep(state.retryMillis), () => {
        state.isAway = false
        turn()
      })
      state.retryMillis = Math.min(2 * state.retryMillis, lastRetryMillis)
    }

    const leave = () => {
      state.mayBeCalled = false
      state.isCalled = false
      forkCall(holder.leave, (exit) => {
        if (exit._tag === "Failure") {
          // When it closes there is no time to say it again: its name runs out by itself.
          state.mayBeCalled = !state.closing
          failed(exit)
        }
        turn()
      })
    }

    /** Looks again after a while: something may be due then, or a letter have been lost. */
    const restAWhile = () => {
      const now = monotonicMillis(clock)
      const millis = Math.min(longestRestMillis, state.restMillis + state.lateMillis)
      const due = now + millis
      if (rest !== undefined && rest.due <= due) return
      const earlier = rest
      // First: whoever is interrupted looks whether it is the one.
      rest = undefined
      earlier?.fiber.interruptUnsafe()
      const fiber = fork(Effect.sleep(millis))
      const mine = { due, fiber }
      rest = mine
      fiber.addObserver(() => {
        if (rest !== mine) return
        rest = undefined
        if (state.over) return
        // Full, or paused: that is no reason to be called stuck.
        if (underWay.size === 0) monitor.stepped(0)
        state.restMillis = longestRest
        state.lateMillis = 0
        lookAgain()
      })
    }

    /** Does whatever there is to do now. Whoever changes something calls it, from within it, too. */
    const turn = () => {
      if (state.over) return
      more = true
      if (turning) return
      turning = true
      const until = performance.now() + sliceMillis
      try {
        while (more && performance.now() < until) {
          more = false
          doWhatThereIs()
        }
      } finally {
        turning = false
      }
      if (more) setImmediate(turn)
      else if (state.closing && isIdle() && underWay.size === 0 && !state.mayBeCalled) onOver?.()
      else if (underWay.size === 0) restAWhile()
    }

    const doWhatThereIs = () => {
      state.givesBack ||= !mayClaimAhead() && runner.waiting() > 0
      if (state.givesBack && state.asked === 0) {
        state.givesBack = false
        runner.giveBack()
      }
      if (runner.waiting() > 0 && !state.givesBack) {
        holder.giveUpLate(monotonicMillis(clock))
        if (!runner.startWaiting()) more = true
      }
      // Whoever rests, or is going, must not be called in place of one who can.
      if (!works() && state.mayBeCalled && underWay.size === 0 && !state.isAway) leave()
      if (!state.isAway) { while (callIfUseful()) { /* once more, while there is room */ } }
    }

    const onLetter = (letter: Letter) => {
      if (letter.kind === "gap") lookAround()
      else if (letter.kind === "cancel") holder.cancel(letter.id, letter.reason)
      else if (letter.kind === "wake") {
        if (letter.owner !== undefined && letter.owner !== holder.owner) return
        state.timesCalled++
        lookAgain()
      } else if (letter.kind === "job") {
        if (letter.owner !== holder.owner) return
        state.timesCalled++
        state.isCalled = false
        // Nobody hands over jobs of a queue that is paused.
        state.queuePausedAfter = -1
        if (holder.hand(letter, monotonicMillis(clock))) monitor.stepped(1)
        turn()
      } else if (letter.kind === "pause") {
        state.queuePausedAfter = state.calls
        turn()
      }
    }
    const lookAgain = () => {
      state.isCalled = false
      turn()
    }
    const lookAround = () => {
      holder.askSoon()
      lookAgain()
    }

    yield* Effect.forkScoped(keepListening(engine, queue.store, onLetter, lookAround))
    yield* Effect.forkScoped(holder.keep(Effect.sync(turn), runner.wasBlocked))
    yield* Effect.addFinalizer(() =>
      Effect.promise(async () => {
        const ended = new Promise<void>((resolve) => {
          onOver = resolve
        })
        state.closing = true
        turn()
        const stop = onSecondSignal(runner.interruptAll)
        // A step that is under way may bring jobs; when the server is away, there is no point in waiting for it.
        const done = (isIdle() && (await within(ended, lastReplyMillis) || isIdle())) ||
          await within(ended, options.shutdownMillis)
        if (!done) {
          runner.interruptAll()
          await within(ended, finalizersMillis)
        }
        stop()
        state.over = true
        rest?.fiber.interruptUnsafe()
        for (const fiber of underWay) fiber.interruptUnsafe()
      })
    )
    turn()
    return {
      running: runner.running,
      setPaused: (value) => {
        state.paused = value
        turn()
      }
    }
  })
