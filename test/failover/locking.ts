/** Holders of one lock who take turns, and write what only the last of them may. */
import { Effect, Result } from "effect"
import type { DistributedLock } from "../../src/DistributedLock.ts"
import type { Lease } from "../../src/Lease.ts"
import { hot, type Load } from "./loadContext.ts"
import { makeCaller, makeTally, type Tally } from "./tally.ts"

const contenders = 4
/** An extension would come after a third of it: those are not waited for by replicas. */
const ttl = "3 seconds"
const holdMillis = 20

export interface LockFindings {
  readonly tally: Tally
  readonly events: LockEvents
}

export interface LockEvents {
  /** Times that somebody began while another was at work. */
  readonly together: number
  /** Times that the token was no greater than that of a holder who had ended before. */
  readonly stale: number
  /** Guarded writes of a lesser token that were accepted after those of a greater one. */
  readonly overwritten: number
  /** Holders who were told that they had lost the lock. */
  readonly lost: number
  /** Those who did not get it in time. */
  readonly timeouts: number
}

/** `shared` makes another lock of the same name, in the same slot. */
export const lockInTurns = (
  load: Load,
  locks: DistributedLock["Service"],
  shared: boolean
): Effect.Effect<LockFindings> =>
  Effect.gen(function*() {
    const tally = makeTally()
    const findings = { together: 0, stale: 0, overwritten: 0, lost: 0, timeouts: 0 }
    let holders = 0
    let endedToken = 0
    let writtenToken = 0

    const work = (lease: Lease) =>
      Effect.suspend(() => {
        if (holders++ > 0) findings.together++
        if (lease.token <= endedToken) findings.stale++
        return Effect.sleep(holdMillis).pipe(
          Effect.andThen(locks.guardedSet(lease, hot, String(lease.token), { shared })),
          Effect.tap(() =>
            Effect.sync(() => {
              if (lease.token < writtenToken) findings.overwritten++
              writtenToken = Math.max(writtenToken, lease.token)
            })
          ),
          Effect.ensuring(Effect.sync(() => {
            holders--
            endedToken = Math.max(endedToken, lease.token)
          }))
        )
      })
    const contend = Effect.gen(function*() {
      const call = makeCaller(tally)
      while (!load.stopped()) {
        const outcome = yield* call(locks.withLock(hot, { ttl, wait: "4 seconds", shared })(work))
        if (Result.isFailure(outcome)) {
          if (outcome.failure._tag === "LockLost") findings.lost++
          if (outcome.failure._tag === "LockTimeout") findings.timeouts++
        }
        yield* Effect.sleep("2 millis")
      }
    })
    yield* Effect.all(Array.from({ length: contenders }, () => contend), { concurrency: "unbounded" })
    return { tally, events: findings }
  })
