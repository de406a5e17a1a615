/** Asks for a lock until it is held: sleeps in line while it is busy, and leaves nothing behind when it gives up. */
import { Cause, Duration, Effect, Exit, Metric, Option, type Scope } from "effect"
import { randomBytes } from "node:crypto"
import type { RedisError } from "../RedisError.ts"
import type { Attempt, LockEngine, Wakes } from "./lockEngine.ts"
import type { LockRequest } from "./lockRequest.ts"
import { monotonicMillis } from "./monotonic.ts"

/** What a request has got. */
export interface Taken {
  readonly token: number
  /** Monotonic milliseconds, taken before the lock was asked for: its lease lasts from then, or from later. */
  readonly since: number
}

export interface LockLine {
  readonly engine: LockEngine
  /** A new name to own a lock by. */
  readonly nextOwner: () => string
  /**
   * Gets the lock within the request's time; undefined when it stays busy. Has to run in an uninterruptible region,
   * which `restore` opens while it waits: so nothing comes between getting the lock and releasing it.
   */
  readonly take: (
    restore: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>,
    request: LockRequest
  ) => Effect.Effect<Taken | undefined, RedisError>
}

/** Who is in line; `wake` is there while it sleeps. */
interface Waiter {
  woken: boolean
  wake: (() => void) | undefined
}

// Who waits asks again at the latest after this time, whatever became of its wake-up. Until then, and for as long as a
// slow answer may take, it counts as listening.
const longestSleepMillis = 5000
const listenSlackMillis = 1000
// When a holder dies, those in line try one after the other.
const staggerMillis = 100

const waitTime = Metric.timer("redis_lock_wait", { description: "How long it took to get a lock" })

/** The line of this process, before the engine that `engineFor` makes. */
export const makeLockLine = Effect.fnUntraced(function*(
  engineFor: (wakes: Wakes) => Effect.Effect<LockEngine, never, Scope.Scope>
) {
  const process = randomBytes(12).toString("base64url")
  const waiters = new Map<string, Waiter>()
  let owners = 0

  const wake = (waiter: Waiter | undefined) => {
    if (waiter === undefined) return
    waiter.woken = true
    waiter.wake?.()
  }
  const engine = yield* engineFor({
    process,
    one: (owner) => wake(waiters.get(owner)),
    all: () => waiters.forEach(wake)
  })

  const get = ({ owner, place, ttlMillis, waitMillis }: LockRequest): Effect.Effect<Taken | undefined, RedisError> =>
    Effect.clockWith((clock) => {
      const start = monotonicMillis(clock)
      const waiter: Waiter = { woken: false, wake: undefined }

      const ask = (arrived: number): Effect.Effect<Taken | undefined, RedisError> => {
        const since = monotonicMillis(clock)
        const left = start + waitMillis - since
        // Nobody may stand in line who would not hear the wake-up.
        const patienceMillis = left > 0 && engine.listens(place.namespace)
          ? Math.ceil(Math.min(left, longestSleepMillis)) + listenSlackMillis
          : 0
        if (patienceMillis > 0) waiters.set(owner, waiter)
        return Effect.flatMap(engine.acquire(place, owner, ttlMillis, { patienceMillis, arrived }), (attempt) => {
          if (!attempt.held) return stay(attempt)
          const took = Duration.millis(monotonicMillis(clock) - start)
          return Effect.as(Metric.update(waitTime, took), { token: attempt.token, since })
        })
      }

      const stay = (attempt: Exclude<Attempt, { readonly held: true }>) => {
        const left = start + waitMillis - monotonicMillis(clock)
        if (left <= 0) return Effect.undefined
        if (attempt.arrived === 0) return Effect.flatMap(engine.listen(place.namespace), () => ask(0))
        const leaseEnds = attempt.remainingMillis + 1 + attempt.ahead * staggerMillis
        return Effect.flatMap(
          sleep(waiter, Math.min(left, leaseEnds, longestSleepMillis)),
          (woken) => woken || monotonicMillis(clock) < start + waitMillis ? ask(attempt.arrived) : Effect.undefined
        )
      }

      return ask(0)
    })

  return {
    engine,
    nextOwner: () => `${process}:${++owners}`,
    take: (restore, request) =>
      Effect.onExit(restore(get(request)), (exit) => {
        const inLine = waiters.delete(request.owner)
        if (Exit.isSuccess(exit) ? exit.value !== undefined || !inLine : !inLine && !mayHaveRun(exit.cause)) {
          return Effect.void
        }
        return Effect.ignore(engine.release(request.place, request.owner, true))
      })
  } satisfies LockLine
})

/** Whether a request that failed for `cause` may yet get the lock, or a place in line. */
const mayHaveRun = (cause: Cause.Cause<RedisError>) =>
  Cause.hasInterrupts(cause) ||
  Option.exists(Cause.findErrorOption(cause), ({ outcome }) => outcome === "Unknown")

/** Waits until `waiter` is woken (true), or the time is up. */
const sleep = (waiter: Waiter, millis: number): Effect.Effect<boolean> =>
  Effect.callback<void>((resume) => {
    waiter.wake = () => resume(Effect.void)
    if (waiter.woken) waiter.wake()
  }).pipe(
    Effect.timeoutOrElse({ duration: millis, orElse: () => Effect.void }),
    Effect.map(() => {
      const { woken } = waiter
      waiter.woken = false
      waiter.wake = undefined
      return woken
    })
  )
