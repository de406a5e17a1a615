/** Finds out which servers of a Cluster have which slots: now and then, and soon after somebody has a doubt. */
import type { Random } from "effect"
import { RedisError } from "../RedisError.ts"
import type { NatMap } from "../RedisSettings.ts"
import type { Connection } from "./connection.ts"
import type { Place } from "./place.ts"
import { readSlots, type SlotMap } from "./slotMap.ts"

/** A server that may be asked. */
interface Server {
  readonly place: Place
  readonly connection: Connection
}

export interface LookOptions {
  readonly natMap: NatMap | undefined
  readonly random: typeof Random.Random["Service"]
  /** Those that can be asked now. */
  readonly ready: () => ReadonlyArray<Server>
  readonly learn: (slots: SlotMap) => void
  /** Called after each look. Yields how soon to look again, if nothing happens. */
  readonly looked: () => number
}

export interface Look {
  /** Looks after so long at the latest. */
  readonly within: (millis: number) => void
  /** What a server says that refuses to tell. */
  readonly refusal: () => RedisError | undefined
  readonly stop: () => void
}

/** How long one server may take to tell, before another is asked. */
const askMillis = 1000
/** Those who have a doubt may be many. */
const restMillis = 20

export const makeLook = ({ learn, looked, natMap, random, ready }: LookOptions): Look => {
  let asking = false
  let stopped = false
  let refusal: RedisError | undefined
  let timer: NodeJS.Timeout | undefined
  let due = Infinity
  let rested = 0

  const shuffled = <A>(all: ReadonlyArray<A>): ReadonlyArray<A> =>
    all.map((one) => [random.nextDoubleUnsafe(), one] as const).toSorted(([a], [b]) => a - b).map(([, one]) => one)

  const within = (millis: number): void => {
    if (stopped) return
    const wanted = Math.max(performance.now() + millis, rested)
    if (wanted >= due) return
    due = wanted
    // While somebody is being asked, what changes may come too late for the answer.
    if (!asking) arm()
  }

  const arm = (): void => {
    clearTimeout(timer)
    timer = setTimeout(() => void look(), Math.max(due - performance.now(), 0))
  }

  /** Asks one after the other, until one knows. */
  const askEach = async ([first, ...others]: ReadonlyArray<Server>): Promise<void> => {
    if (first === undefined || stopped) return
    try {
      const slots = await ask(first, natMap)
      refusal = undefined
      // One that is alone, or new, knows of nobody.
      if (slots.places.size > 0 && !stopped) return learn(slots)
    } catch (error) {
      if (error instanceof RedisError && error.outcome === "Rejected") refusal = explained(error)
    }
    return askEach(others)
  }

  const look = async (): Promise<void> => {
    asking = true
    due = Infinity
    await askEach(shuffled(ready()))
    asking = false
    if (stopped) return
    rested = performance.now() + restMillis
    due = Math.min(Math.max(due, rested), performance.now() + looked())
    arm()
  }

  return {
    within,
    refusal: () => refusal,
    stop: () => {
      stopped = true
      clearTimeout(timer)
    }
  }
}

const ask = ({ connection, place }: Server, natMap: NatMap | undefined): Promise<SlotMap> =>
  new Promise((resolve, reject) => {
    // Earlier than the call's own deadline, at which it would take the connection of a server along that is only slow.
    const late = setTimeout(() => reject(new Error("no reply yet")), askMillis)
    connection.calls.start({
      command: "cluster slots",
      send: (client) => client.cluster("SLOTS"),
      repeatable: true,
      pinned: true,
      done: (error, reply) => {
        clearTimeout(late)
        const read = error === undefined ? readSlots(reply, place, natMap) : undefined
        if (read === undefined) reject(error ?? unknownReply())
        else resolve(read)
      }
    })
  })

const unknownReply = () =>
  new RedisError({
    command: "cluster slots",
    reason: "reply",
    outcome: "Rejected",
    detail: "its reply has an unknown shape"
  })

/** Says what to do about a server that is no Cluster's. */
const explained = (error: RedisError): RedisError => {
  const { command, detail, outcome, reason } = error
  const what = /cluster support disabled/.test(detail)
    ? "it is one server: name it with redis://host:port or REDIS_HOST, without ?cluster=true"
    : /unknown command/.test(detail)
    ? "is it a Sentinel? Those take ?sentinel=<name of the master>, or REDIS_SENTINELS"
    : undefined
  return what === undefined ? error : new RedisError({ command, reason, outcome, detail: `${detail}; ${what}` })
}
