/** Asks Sentinels which of several servers is the master. */
import type { Redis as Client } from "ioredis"
import { RedisError } from "../RedisError.ts"
import type { NatMap } from "../RedisSettings.ts"
import { connectError, isReply } from "./failure.ts"

/** A server as Node connects to it. */
export interface Place {
  readonly host: string
  readonly port: number
}

/** How a server is called in maps: `host:port`. */
export const nameOfPlace = ({ host, port }: Place): string => `${host}:${port}`

/** The place that `nameOfPlace` named. */
export const placeOfName = (name: string): Place => {
  const colon = name.lastIndexOf(":")
  return { host: name.slice(0, colon), port: Number(name.slice(colon + 1)) }
}

/** Where a server that calls itself `place` is reached from here. */
export const translated = (place: Place, natMap: NatMap | undefined): Place => {
  const outside = natMap?.[nameOfPlace(place)]
  return outside === undefined ? place : { host: outside.host, port: outside.port ?? place.port }
}

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

/**
 * Where the master is. All Sentinels that are known are asked at once: the address that most of them name counts, since
 * one that was cut off from the others goes on naming the old one. Fails with a `RedisError`.
 */
export const askSentinels = (options: SentinelOptions): () => Promise<Place> => {
  // Further Sentinels are found through those that answer.
  const known = new Map(options.nodes.map((place) => [nameOfPlace(place), place]))

  const ask = async (place: Place): Promise<Answer> => {
    const client = options.makeClient(place)
    let told: unknown
    client.on("error", (cause: unknown) => {
      told ??= cause
    })
    const timer = setTimeout(() => client.disconnect(), options.timeoutMillis)
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
      clearTimeout(timer)
      client.disconnect()
      client.stream?.destroy()
    }
  }

  return () =>
    new Promise((resolve, reject) => {
      const asked = [...known.values()]
      const votes = new Map<string, number>()
      let pending = asked.length
      let answered = 0
      let failure: unknown
      const heard = ({ master, others }: Answer): void => {
        answered++
        for (const other of others) {
          const place = translated(other, options.natMap)
          known.set(nameOfPlace(place), place)
        }
        if (master === undefined) return
        const name = nameOfPlace(master)
        const count = (votes.get(name) ?? 0) + 1
        votes.set(name, count)
        if (count > asked.length / 2) resolve(translated(master, options.natMap))
        best = best === undefined || count > (votes.get(nameOfPlace(best)) ?? 0) ? master : best
      }
      let best: Place | undefined
      const done = (): void => {
        if (--pending > 0) return
        if (best !== undefined) return resolve(translated(best, options.natMap))
        reject(answered > 0 ? unknownMaster() : unreachable(asked.length, failure))
      }
      for (const place of asked) {
        ask(place).then(heard, (cause: unknown) => {
          failure = isReply(cause) ? cause : failure ?? cause
        }).finally(done)
      }
    })
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
  const { detail, reason } = connectError("connect", cause, isReply(cause) ? "Rejected" : "NotSent")
  return new RedisError({
    command: "connect",
    reason,
    outcome: "NotSent",
    detail: `none of ${count} Sentinels told where the master is: ${detail}`
  })
}
