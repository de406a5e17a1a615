/** A worker's way to one partition of its queue: the calls that are on their way, what they told, when to look again. */
import { Effect, type Exit, type Fiber } from "effect"
import type { RedisError } from "../RedisError.ts"
import type { Holder } from "./jobHolder.ts"
import type { JobSource } from "./jobRunner.ts"
import type { Letter, QueueStore, StepReply } from "./queueEngine.ts"

const firstRetryMillis = 50
const lastRetryMillis = 2000
/** How long it rests when nothing is lost on the way: it is woken for whatever there is. */
const longestRestMillis = 2 ** 31 - 1
/** How much later than others a worker looks for jobs that it has no handler for. */
const afterOthersMillis = 20
/** How soon a worker that is busy with other partitions looks again into one that does not call it. */
const probeMillis = 10

/** What a lane needs of the worker that it belongs to. */
export interface LaneOptions {
  readonly store: QueueStore
  readonly holder: Holder
  /** How the log calls the partition. */
  readonly label: string
  /** How long it rests at most before it looks again, where a wake-up may be lost. */
  readonly pollMillis: number
  readonly isRemote: boolean
  readonly nowMillis: () => number
  readonly fork: <A, E>(effect: Effect.Effect<A, E>) => Fiber.Fiber<A, E>
  /** Does whatever there is to do now. */
  readonly turn: () => void
  readonly isOver: () => boolean
  readonly isClosing: () => boolean
  /** A call was answered after so many milliseconds. */
  readonly called: (millis: number) => void
  /** It was reached, with so many claims. */
  readonly stepped: (claimed: number) => void
}

export interface Lane extends JobSource {
  readonly store: QueueStore
  /** How many calls are on their way. */
  readonly underWay: () => number
  /** How many jobs they may bring. */
  readonly asked: () => number
  /** It was told that the queue is paused, and not yet that it goes on. */
  readonly isPaused: () => boolean
  /** The last call found as many jobs as it asked for, so that there may be more. */
  readonly foundMore: () => boolean
  /** It is called as soon as there are jobs. */
  readonly isCalled: () => boolean
  /** It has not looked for a while. */
  readonly isDue: () => boolean
  /** Someone may call it, so that it has to leave before the worker closes. */
  readonly mayBeCalled: () => boolean
  /** It does not call, as it has just failed to. */
  readonly isAway: () => boolean
  /** Reports, and claims up to `want` jobs and `ahead` more. */
  readonly call: (want: number, ahead: number) => void
  readonly leave: () => void
  /** Looks again after a while: something may be due then, or a letter have been lost. */
  readonly restAWhile: () => void
  readonly onLetter: (letter: Letter) => void
  /** Looks again, and asks whether what is held is still held. */
  readonly lookAround: () => void
  readonly interrupt: () => void
}

/** A lane that is at rest. */
export const makeLane = (options: LaneOptions): Lane => {
  const { fork, holder, label, nowMillis, pollMillis, turn } = options
  const longestRest = options.isRemote ? pollMillis : longestRestMillis
  const underWay = new Set<Fiber.Fiber<unknown, unknown>>()
  /** The queue was paused after so many calls: what they bring is not to start. */
  let pausedAfter = -1
  let asked = 0
  /** How often it has called. */
  let calls = 0
  let foundMore = false
  let isCalled = false
  /** How often it was called, or may have been: what a reply says of that may be older than the last time. */
  let timesCalled = 0
  let mayBeCalled = false
  let isAway = false
  let retryMillis = firstRetryMillis
  let restMillis = longestRest
  let lateMillis = 0
  let lookedAt = -Infinity
  let rest: { readonly due: number; readonly fiber: Fiber.Fiber<void> } | undefined

  const forkCall = <A>(
    effect: Effect.Effect<A, RedisError>,
    onExit: (exit: Exit.Exit<A, RedisError>) => void
  ) => {
    const fiber = fork(effect)
    underWay.add(fiber)
    fiber.addObserver((exit) => {
      underWay.delete(fiber)
      if (!options.isOver()) onExit(exit)
    })
  }

  const replied = (number: number, asked: number, reply: StepReply) => {
    if (retryMillis !== firstRetryMillis) {
      fork(Effect.logInfo(`${label} is reached again`))
      retryMillis = firstRetryMillis
    }
    options.stepped(reply.claims.length)
    foundMore = asked > 0 ? reply.claims.length >= asked || reply.nextMillis === 0 : foundMore
    restMillis = Math.min(longestRest, reply.nextMillis ?? Infinity)
    // Those who may have a handler for it go first when it is due again.
    if (lane.passedOn) lateMillis = afterOthersMillis
    lane.passedOn = false
    if (reply.paused || number > pausedAfter) {
      pausedAfter = reply.paused ? Math.max(number, pausedAfter) : -1
    }
    turn()
  }

  const failed = (exit: Exit.Failure<unknown, RedisError>) => {
    isCalled = false
    if (isAway) return
    isAway = true
    if (retryMillis === firstRetryMillis) {
      const reason = exit.cause.reasons.find((reason) => reason._tag === "Fail")
      fork(Effect.logWarning(`${label} cannot be reached: ${reason?.error.message ?? "interrupted"}`))
    }
    forkCall(Effect.sleep(retryMillis), () => {
      isAway = false
      turn()
    })
    retryMillis = Math.min(2 * retryMillis, lastRetryMillis)
  }

  const lookAgain = () => {
    isCalled = false
    lookedAt = -Infinity
    turn()
  }

  const lane: Lane = {
    store: options.store,
    holder,
    waiting: 0,
    givesBack: false,
    passedOn: false,
    underWay: () => underWay.size,
    asked: () => asked,
    isPaused: () => pausedAfter >= 0,
    foundMore: () => foundMore,
    isCalled: () => isCalled,
    isDue: () => performance.now() - lookedAt >= probeMillis,
    mayBeCalled: () => mayBeCalled,
    isAway: () => isAway,
    call: (want, ahead) => {
      const number = ++calls
      const most = want + ahead
      const sentAt = performance.now()
      const timesCalledBefore = timesCalled
      asked += most
      if (most > 0) lookedAt = sentAt
      mayBeCalled ||= want > 0
      forkCall(holder.step(want, ahead, want > 0 ? pollMillis + lastRetryMillis : 0), (exit) => {
        asked -= most
        if (exit._tag === "Success") {
          options.called(performance.now() - sentAt)
          isCalled = exit.value.willCall && timesCalled === timesCalledBefore
          replied(number, most, exit.value)
        } else failed(exit)
      })
    },
    leave: () => {
      mayBeCalled = false
      isCalled = false
      forkCall(holder.leave, (exit) => {
        if (exit._tag === "Failure") {
          // When it closes there is no time to say it again: its name runs out by itself.
          mayBeCalled = !options.isClosing()
          failed(exit)
        }
        turn()
      })
    },
    restAWhile: () => {
      const millis = Math.min(longestRestMillis, restMillis + lateMillis)
      const due = nowMillis() + millis
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
        if (options.isOver()) return
        // Full, or paused: that is no reason to be called stuck.
        if (underWay.size === 0) options.stepped(0)
        restMillis = longestRest
        lateMillis = 0
        lookAgain()
      })
    },
    onLetter: (letter) => {
      if (letter.kind === "gap") lane.lookAround()
      else if (letter.kind === "cancel") holder.cancel(letter.id, letter.reason)
      else if (letter.kind === "wake") {
        if (letter.owner !== undefined && letter.owner !== holder.owner) return
        timesCalled++
        lookAgain()
      } else if (letter.kind === "job") {
        if (letter.owner !== holder.owner) return
        timesCalled++
        isCalled = false
        lookedAt = -Infinity
        // Nobody hands over jobs of a queue that is paused.
        pausedAfter = -1
        if (holder.hand(letter, nowMillis())) options.stepped(1)
        turn()
      } else if (letter.kind === "pause") {
        pausedAfter = calls
        turn()
      }
    },
    lookAround: () => {
      // A call on its way may have left our name before anyone listened to it, so that it was crossed out.
      timesCalled++
      holder.askSoon()
      lookAgain()
    },
    interrupt: () => {
      rest?.fiber.interruptUnsafe()
      for (const fiber of underWay) fiber.interruptUnsafe()
    }
  }
  return lane
}
