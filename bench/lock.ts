/** Locks: one that nobody else wants, and one that twenty want. */
import { pause } from "./support/callers.ts"
import { type Case, withAdapter } from "./support/case.ts"

/** A lock as the measurements use it. */
export interface LockAdapter {
  /** Runs so many contenders, of which each takes the lock, works, and frees it, as long as `goOn` says so. */
  readonly contend: (
    contenders: number,
    goOn: () => boolean,
    work: ((contender: number) => Promise<void>) | undefined
  ) => Promise<unknown>
  readonly close: () => Promise<unknown>
}

const peers = {
  "redlock": "peers/redlock.mjs",
  "redis-semaphore": "peers/redisSemaphore.mjs"
}
const alone = { ours: "ours/lock.ts", floor: "floors/lock.ts", ...peers }
const crowd = { ours: "ours/lock.ts", floor: "floors/lockHandOver.ts", ...peers }

const until = (end: number) => () => performance.now() < end

const uncontended: Case = {
  name: "lock.uncontended",
  figures: [{ id: "lock.uncontended", unit: "us", better: "less" }],
  about: "one caller acquires and releases, again and again; floor: one EVALSHA for each",
  isRate: true,
  size: 0,
  smokeSize: 0,
  systems: alone,
  run: withAdapter<LockAdapter>(alone, async (lock, { seconds }, probe) => {
    let n = 0
    const cost = await probe.cost(async () => {
      const inTime = until(performance.now() + seconds * 1000)
      await lock.contend(1, () => inTime() && ++n > 0, undefined)
      return { n }
    })
    return { values: { "lock.uncontended": Number((cost.seconds * 1e6 / cost.n).toFixed(1)) }, ...cost }
  })
}

const handOver: Case = {
  name: "lock.handover",
  figures: [{ id: "lock.handover", unit: "hand-overs/s", better: "more" }],
  about:
    "20 contenders each hold it for 1 ms and ask again at once; what counts is that another one gets it; floor: a " +
    "token in a list, which 20 connections wait for with BLPOP",
  isRate: true,
  size: 0,
  smokeSize: 0,
  systems: crowd,
  run: withAdapter<LockAdapter>(crowd, async (lock, { seconds }, probe) => {
    let inside = 0
    let last = -1
    let handOvers = 0
    const cost = await probe.cost(async () => {
      const start = performance.now()
      const inTime = until(start + seconds * 1000)
      let lastAt = start
      await lock.contend(20, inTime, async (contender) => {
        if (++inside > 1) throw new Error("two hold the lock")
        // Those who still wait when the time is over get it without being counted.
        if (contender !== last && inTime()) {
          last = contender
          handOvers++
          lastAt = performance.now()
        }
        await pause(1)
        inside--
      })
      return { n: handOvers, seconds: Math.max(seconds, (lastAt - start) / 1000) }
    })
    return { values: { "lock.handover": Number((cost.n / cost.seconds).toFixed(1)) }, ...cost }
  })
}

export const lockCases: ReadonlyArray<Case> = [uncontended, handOver]
