/** Works off one queue: claims as many jobs as it can run, has them run, reports, and rests when there is nothing. */
import { Clock, Effect, Random, type Scope } from "effect"
import type { JobHandler } from "../Job.ts"
import { makeHolder } from "./jobHolder.ts"
import { type Lane, makeLane } from "./jobLane.ts"
import { keepListening } from "./jobListening.ts"
import { type JobMonitor, makeJobMonitor } from "./jobMonitor.ts"
import { makePace } from "./jobPace.ts"
import { makeRunner, type Runner } from "./jobRunner.ts"
import { monotonicMillis } from "./monotonic.ts"
import type { Letter, QueueEngine } from "./queueEngine.ts"
import type { Queue } from "./queuePartitions.ts"
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
/** How many jobs are claimed by one call at most. */
const claimAtMost = 500
/** For how long it works in a row before others on this thread have their turn. */
const sliceMillis = 4
/** How many reports are worth a call of their own while another one is on its way. */
const manyReports = 100
/** How long an idle worker that closes waits for the reply to its last step. */
const lastReplyMillis = 500
/** How long interrupted handlers get for their finalizers before the worker stops waiting for them. */
const finalizersMillis = 2000

/** Starts to work, until the scope closes: then it stops to claim, lets jobs end, and gives back what is left. */
export const startLoop = <R>(
  engine: QueueEngine,
  queue: Queue,
  handlers: ReadonlyMap<string, JobHandler<R>>,
  options: LoopOptions
): Effect.Effect<JobLoop, never, R | Scope.Scope> =>
  Effect.gen(function*() {
    const context = yield* Effect.context<R>()
    const clock = yield* Clock.Clock
    const random = yield* Random.Random
    const fork = Effect.runForkWith(context)
    const pace = makePace(options.concurrency, engine.isRemote ? options.prefetch : 0)
    const runner: Runner = makeRunner(
      queue,
      handlers,
      context,
      () => random.nextDoubleUnsafe(),
      {
        concurrency: options.concurrency,
        leaseMillis: options.leaseMillis,
        pace,
        onSlow: () => giveBack()
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

    const state = { paused: false, closing: false, over: false }
    let turning = false
    let more = false
    let onOver: (() => void) | undefined

    const nowMillis = () => monotonicMillis(clock)
    const lanes: ReadonlyArray<Lane> = queue.partitions.map((store, partition) => {
      const lane: Lane = makeLane({
        store,
        holder: makeHolder(
          store,
          engine.inbox.addressOf(store.address),
          options.leaseMillis,
          (claim) => runner.receive(lane, claim),
          () => lanes.every((other) => other === lane || !other.holder.hasLastChance())
        ),
        label: `Queue "${queue.name}"${queue.partitions.length > 1 ? `, partition ${partition},` : ""}`,
        pollMillis: options.pollMillis,
        isRemote: engine.isRemote,
        nowMillis,
        fork,
        turn: () => turn(),
        isOver: () => state.over,
        isClosing: () => state.closing,
        called: (millis) => {
          pace.called(millis)
          // For what came with a slow reply the next beat may be too late.
          if (millis > options.leaseMillis / 3) lane.holder.askSoon()
        },
        stepped: (claimed) => monitor.stepped(partition, claimed)
      })
      return lane
    })
    /** Whose turn it is to be claimed from. */
    let nextLane = 0

    const works = () => !(state.paused || state.closing)
    const mayClaimAhead = (lane: Lane) => works() && !lane.isPaused()
    const isIdle = () =>
      runner.running() === 0 && runner.waiting() === 0 && lanes.every(({ holder }) => holder.reports() === 0)
    const asked = () => {
      let sum = 0
      for (const lane of lanes) sum += lane.asked()
      return sum
    }
    const nothing = { want: 0, ahead: 0, total: 0 }
    /** How many jobs could start at once if they were here, and how many more may be claimed. */
    const room = (lane: Lane) => {
      if (!works() || lane.givesBack) return nothing
      const taken = runner.running() + runner.waiting() + asked()
      const ahead = mayClaimAhead(lane) ? pace.ahead() : 0
      const total = options.concurrency + ahead
      // In two calls that take turns, so that one is answered while the jobs of the other one run.
      const most = Math.min(ahead > 0 ? Math.ceil(total / 2) : total, total - taken, claimAtMost)
      const want = Math.max(0, Math.min(options.concurrency - taken, most))
      return { want, ahead: Math.max(0, most - want), total }
    }

    /** Whether a second call may be on its way while the first one is. */
    const mayCallTwice = (lane: Lane) => engine.isRemote && lane.underWay() === 1 && lane.foundMore()

    /** Of several lanes, the next one that may have jobs; undefined when none may. */
    const laneToClaimFrom = (): Lane | undefined => {
      for (let i = 0; i < lanes.length; i++) {
        const lane = lanes[(nextLane + i) % lanes.length]!
        if (lane.isAway() || lane.isCalled() || lane.givesBack) continue
        const underWay = lane.underWay()
        if (underWay === 0 ? lane.foundMore() || lane.isDue() || room(lane).want > 0 : mayCallTwice(lane)) return lane
      }
      return undefined
    }

    /** Calls, if there is something to call for. */
    const callIfUseful = (): boolean => {
      const claimer = lanes.length === 1 ? undefined : laneToClaimFrom()
      for (let i = 0; i < lanes.length; i++) {
        const lane = lanes[i]!
        if (lane.isAway()) continue
        const reports = lane.holder.reports()
        // While it is the turn of one, others only report.
        const { ahead, total, want } = claimer === undefined || claimer === lane ? room(lane) : nothing
        // Worth a call: enough of what it claims ahead has been started since.
        const low = ahead > 0 && ahead >= total / 4 && (lane.foundMore() || claimer === lane)
        const useful = lane.underWay() === 0
          ? reports > 0 || (want > 0 && !lane.isCalled()) || low
          : lane.underWay() === 1 && engine.isRemote && (reports >= manyReports || low || lane.holder.isDue())
        if (!useful) continue
        if (lane === claimer) nextLane = i + 1
        lane.call(want, ahead)
        return true
      }
      return false
    }

    /** What waits goes back, together with what calls on their way bring, so that all keep their order. */
    const giveBack = () => {
      for (const lane of lanes) lane.givesBack ||= lane.waiting > 0
      turn()
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
      else if (state.closing && isIdle() && lanes.every((lane) => lane.underWay() === 0 && !lane.mayBeCalled())) {
        onOver?.()
      } else {
        for (const lane of lanes) if (lane.underWay() === 0) lane.restAWhile()
      }
    }

    const doWhatThereIs = () => {
      for (const lane of lanes) {
        lane.givesBack ||= lane.waiting > 0 && !mayClaimAhead(lane)
        if (lane.givesBack && lane.asked() === 0) {
          lane.givesBack = false
          runner.giveBack(lane)
        }
      }
      if (runner.waiting() > 0) {
        const now = nowMillis()
        for (const lane of lanes) if (lane.waiting > 0) lane.holder.giveUpLate(now)
        if (!runner.startWaiting()) more = true
      }
      for (const lane of lanes) {
        // Whoever rests, or is going, must not be called in place of one who can.
        if (!works() && lane.mayBeCalled() && lane.underWay() === 0 && !lane.isAway()) lane.leave()
      }
      while (callIfUseful()) { /* once more, while there is room */ }
    }

    const onLetter = (lane: Lane) => (letter: Letter) => {
      lane.onLetter(letter)
      // Several partitions may each hand over a job for the same room. One that would have to wait long is for others.
      const isOurs = lanes.length > 1 && letter.kind === "job" && letter.owner === lane.holder.owner
      const isFull = runner.waiting() > 0 && runner.running() === options.concurrency
      if (isOurs && isFull && pace.ahead() === 0) giveBack()
    }

    for (const lane of lanes) {
      yield* Effect.forkScoped(keepListening(engine, lane.store, onLetter(lane), lane.lookAround))
      yield* Effect.forkScoped(lane.holder.keep(Effect.sync(turn), runner.wasBlocked))
    }
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
        for (const lane of lanes) lane.interrupt()
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
