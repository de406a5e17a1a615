/** Limits within this process, under Effect's Clock. */
import { Clock, Effect } from "effect"
import type { LimitEngine } from "./rateLimitEngine.ts"
import { decisionSlack, type KnownLimit, type LimitState, passes, reported, stateAt } from "./rateLimitState.ts"

interface Entry {
  readonly state: LimitState
  /** Until when it matters, in microseconds. */
  readonly until: number
}

export const memoryEngine = (): LimitEngine => {
  const entries = new Map<string, Entry>()
  let sweepAt = 1024

  // Whenever the map has doubled, so that a call pays for a constant part of it.
  const sweep = (now: number) => {
    for (const [key, { until }] of entries) {
      if (until < now) entries.delete(key)
    }
    sweepAt = Math.max(1024, 2 * entries.size)
  }

  const keyOf = (limit: KnownLimit, subject: string) =>
    `${limit.shared ? "shared" : "own"}${limit.keySuffix}:${subject}`

  return {
    take: (limits, subject, cost) =>
      Clock.clockWith((clock) => {
        const now = nowMicros(clock)
        const keys = limits.map((limit) => keyOf(limit, subject))
        const states = limits.map((limit, i) => stateAt(limit, entries.get(keys[i]!)?.state, now))
        const allowed = limits.every((limit, i) => passes(limit, states[i]!, now, cost, decisionSlack))
        if (allowed) {
          limits.forEach((limit, i) => {
            const { level, previous, since } = states[i]!
            states[i] = { level: level + cost, since, previous }
            entries.set(keys[i]!, { state: states[i], until: now + limit.keepMillis * 1000 })
          })
          if (entries.size >= sweepAt) sweep(now)
        }
        return Effect.succeed({ allowed, now, states: states.map(reported) })
      }),
    look: (limits, subject) =>
      Clock.clockWith((clock) => {
        const now = nowMicros(clock)
        const unused = { level: 0, since: now, previous: 0 }
        return Effect.succeed({
          now,
          states: limits.map((limit) => reported(entries.get(keyOf(limit, subject))?.state ?? unused))
        })
      }),
    forget: (limits, subject) =>
      Effect.sync(() => {
        for (const limit of limits) entries.delete(keyOf(limit, subject))
      })
  }
}

// Monotonic time: this process needs to agree with nobody, and no correction of the clock reaches it.
const nowMicros = (clock: Clock.Clock) => Number(clock.monotonicTimeNanosUnsafe() / 1000n)
