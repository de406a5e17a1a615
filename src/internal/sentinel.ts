/** Asks Sentinels which of several servers is the master. */
import type { Redis as Client } from "ioredis"
import { RedisError } from "../RedisError.ts"
import type { NatMap } from "../RedisSettings.ts"
import { connectError, isBroken, isReply, sentinelVariables } from "./failure.ts"
import { nameOfPlace, type Place, translated } from "./place.ts"

export interface SentinelOptions {
  /** What the master is called. */
  readonly name: string
  readonly nodes: ReadonlyArray<Place>
  readonly natMap: NatMap | undefined
  readonly timeoutMillis: number
  /** A client that connects when told to, and once. */
  readonly makeClient: (place: Place) => Client
}

interface Answer {
  readonly master: Place | undefined
  readonly others: ReadonlyArray<Place>
}

// Once one has named a master, the others get so long: a dead one would hold up all.
const graceMillis = 500

/**
 * Where the master is. All Sentinels that are known are asked at once: the address that most of them name counts, since
 * one that was cut off from the others goes on naming the old one. Fails with a `RedisError`.
 */
export const askSentinels = (options: SentinelOptions): (signal: AbortSignal) => Promise<Place> => {
  // Further Sentinels are found through those that answer.
  const known = new Map(options.nodes.map((place) => [nameOfPlace(place), place]))
  const named = new Set(known.keys())
  // Those that a majority is a majority of: where others are said to be, they may never be reached from here.
  const voters = new Set(named)

  return (signal) =>
    new Promise((resolve, reject) => {
      const asked = new Set(known.keys())
      const round = new AbortController()
      const votes = new Map<string, number>()
      const majority = Math.floor(voters.size / 2) + 1
      let best: Place | undefined
      let answered = false
      let failure: unknown
      let grace: NodeJS.Timeout | undefined

      const decide = (): void => {
        clearTimeout(patience)
        clearTimeout(grace)
        if (best !== undefined) resolve(translated(best, options.natMap))
        else reject(answered ? unknownMaster() : unreachable(known.size, failure))
        round.abort()
      }
      const patience = setTimeout(() => {
        failure ??= new Error("timed out: they do not answer")
        decide()
      }, options.timeoutMillis)
      const forget = (name: string): void => {
        if (named.has(name)) return
        known.delete(name)
        voters.delete(name)
      }
      const heard = (name: string, { master, others }: Answer): void => {
        answered = true
        voters.add(name)
        for (const other of others) {
          const place = translated(other, options.natMap)
          known.set(nameOfPlace(place), place)
        }
        if (master === undefined) return
        const votesFor = (place: Place) => votes.get(nameOfPlace(place)) ?? 0
        votes.set(nameOfPlace(master), votesFor(master) + 1)
        if (best === undefined || votesFor(master) > votesFor(best)) best = master
        if (votesFor(best) >= majority) return decide()
        grace ??= setTimeout(() => {
          asked.forEach(forget)
          decide()
        }, graceMillis)
      }
      for (const [name, place] of known) {
        ask(options, place, AbortSignal.any([signal, round.signal])).then((answer) => {
          if (!round.signal.aborted) heard(name, answer)
        }, (cause: unknown) => {
          failure = isReply(cause) ? cause : failure ?? cause
          if (answered && !round.signal.aborted) forget(name)
        }).finally(() => {
          asked.delete(name)
          if (asked.size === 0 && !round.signal.aborted) decide()
        })
      }
    })
}

const ask = async (options: SentinelOptions, place: Place, signal: AbortSignal): Promise<Answer> => {
  const client = options.makeClient(place)
  let told: unknown
  client.on("error", (cause: unknown) => {
    told ??= cause
  })
  const stop = (): void => {
    client.disconnect()
    // A silent peer would never close it.
    client.stream?.destroy()
  }
  signal.addEventListener("abort", stop)
  try {
    await client.connect()
    const [master, others] = await Promise.all([
      client.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", options.name),
      // What it may not tell, we need not know.
      client.call("SENTINEL", "SENTINELS", options.name).catch(() => [])
    ])
    return { master: placeOf(master), others: (others as ReadonlyArray<unknown>).flatMap(sentinelOf) }
  } catch (cause) {
    throw isReply(cause) ? cause : told ?? cause
  } finally {
    signal.removeEventListener("abort", stop)
    stop()
  }
}

const placeOf = (reply: unknown): Place | undefined => {
  if (!Array.isArray(reply) || reply.length !== 2) return undefined
  return { host: String(reply[0]), port: Number(reply[1]) }
}

/** One of those that know each other, unless it is gone. */
const sentinelOf = (fields: unknown): ReadonlyArray<Place> => {
  if (!Array.isArray(fields)) return []
  const field = (name: string) => {
    const at = fields.indexOf(name)
    return at < 0 ? undefined : String(fields[at + 1])
  }
  const [host, port, flags = ""] = [field("ip"), field("port"), field("flags")]
  return host === undefined || port === undefined || /disconnected|_down/.test(flags)
    ? []
    : [{ host, port: Number(port) }]
}

const unknownMaster = () =>
  new RedisError({
    command: "connect",
    reason: "connection",
    outcome: "NotSent",
    detail: "the Sentinels know no master of this name; check REDIS_SENTINEL_NAME, or what the URL says"
  })

const unreachable = (count: number, cause: unknown) => {
  const closed = isBroken(cause) || (!isReply(cause) && /ECONNRESET|EPIPE/.test(String(cause)))
  const why = closed ? new Error("it closed the connection at once; does it expect TLS?") : cause
  const { detail, reason } = connectError("connect", why, "NotSent", sentinelVariables)
  return new RedisError({
    command: "connect",
    reason,
    outcome: "NotSent",
    detail: `none of ${count} Sentinels told where the master is: ${detail}${
      /unknown command/.test(detail) ? "; is it a Sentinel? An ordinary server has no such command" : ""
    }`
  })
}
