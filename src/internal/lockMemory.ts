/** The steps of a lock that must be atomic, as plain data under Effect's Clock. */
import { Clock, Effect } from "effect"
import { keptMillis, type LockEngine, type Wakes } from "./lockEngine.ts"

interface Lock {
  holder: string
  token: number
  until: number
  since: number
  /** Who waits, by arrival, and until when. */
  readonly line: Map<string, { readonly arrived: number; listensUntil: number }>
}

/** Locks within this process. */
export const memoryEngine = (wakes: Wakes): LockEngine => {
  const locks = new Map<string, Lock>()
  const resources = new Map<string, { readonly value: string; readonly token: number; readonly until: number }>()
  let lastToken = 0

  const now = <A>(f: (millis: number) => A) => Effect.map(Clock.currentTimeMillis, f)
  // For all locks of this engine, so that a free lock need not be remembered.
  const nextToken = (millis: number) => lastToken = Math.max(lastToken + 1, millis * 1000)

  return {
    namespace: "memory",
    acquire: ({ base }, owner, ttlMillis, { arrived, patienceMillis }) =>
      now((millis) => {
        let lock = locks.get(base)
        if (lock === undefined) {
          lock = { holder: "", token: 0, until: 0, since: 0, line: new Map() }
          locks.set(base, lock)
        }
        if (lock.until > millis && lock.holder !== owner) {
          const remainingMillis = lock.until - millis
          if (patienceMillis === 0) return { held: false, remainingMillis, arrived: 0, ahead: 0 }
          const place = lock.line.get(owner)?.arrived ?? (arrived === 0 ? nextToken(millis) : arrived)
          lock.line.set(owner, { arrived: place, listensUntil: millis + patienceMillis })
          const ahead = [...lock.line.values()].filter((waiter) => waiter.arrived < place).length
          return { held: false, remainingMillis, arrived: place, ahead }
        }
        if (lock.until <= millis) {
          lock.token = nextToken(millis)
          lock.since = millis
        }
        lock.holder = owner
        lock.until = millis + ttlMillis
        lock.line.delete(owner)
        return { held: true, token: lock.token }
      }),
    extend: ({ base }, owner, ttlMillis) =>
      now((millis) => {
        const lock = locks.get(base)
        if (lock === undefined || lock.holder !== owner || lock.until <= millis) return false
        lock.until = Math.max(lock.until, millis + ttlMillis)
        return true
      }),
    release: ({ base }, owner, waits) =>
      now((millis) => {
        const lock = locks.get(base)
        if (lock === undefined) return false
        if (waits) lock.line.delete(owner)
        if (lock.holder !== owner || lock.until <= millis) return false
        const line = [...lock.line].toSorted(([, a], [, b]) => a.arrived - b.arrived)
        for (const [next, { listensUntil }] of line) {
          lock.line.delete(next)
          if (listensUntil <= millis) continue
          Object.assign(lock, { holder: next, token: nextToken(millis), until: millis + keptMillis, since: millis })
          wakes.one(next)
          return true
        }
        locks.delete(base)
        return true
      }),
    inspect: ({ base }) =>
      now((millis) => {
        const lock = locks.get(base)
        if (lock === undefined || lock.until <= millis) return undefined
        return {
          holder: lock.holder,
          token: lock.token,
          remainingMillis: lock.until - millis,
          heldMillis: millis - lock.since,
          waiters: [...lock.line.values()].filter(({ listensUntil }) => listensUntil > millis).length
        }
      }),
    write: ({ base }, token, value, ttlMillis) =>
      now((millis) => {
        if ((resources.get(base)?.token ?? 0) > token) return false
        resources.set(base, { value, token, until: ttlMillis === 0 ? Infinity : millis + ttlMillis })
        return true
      }),
    read: ({ base }) =>
      now((millis) => {
        const resource = resources.get(base)
        return resource === undefined || resource.until <= millis ? null : resource.value
      }),
    listens: () => true,
    listen: () => Effect.void
  }
}
