/** Which servers of a Cluster have which slots, as CLUSTER SLOTS tells it. */
import type { NatMap } from "../RedisSettings.ts"
import { nameOfPlace, type Place, placeOfName, translated } from "./place.ts"
import { slotCount } from "./redirection.ts"

export interface SlotMap {
  /** The master of each slot by its name; undefined where there is none. */
  readonly owners: Array<string | undefined>
  /** A master's replicas, by their names. */
  readonly replicas: ReadonlyMap<string, ReadonlyArray<string>>
  /** All of them. */
  readonly places: ReadonlyMap<string, Place>
  readonly isWhole: boolean
}

/** Nothing is known. */
export const unknownSlots = (): SlotMap => ({
  owners: Array.from<string | undefined>({ length: slotCount }),
  replicas: new Map(),
  places: new Map(),
  isWhole: false
})

/** Reads the reply of a server that is known as `asked`. Undefined when it is none. */
export const readSlots = (reply: unknown, asked: Place, natMap: NatMap | undefined): SlotMap | undefined => {
  if (!Array.isArray(reply)) return undefined
  const owners = unknownSlots().owners
  const replicas = new Map<string, ReadonlyArray<string>>()
  const places = new Map<string, Place>()
  let covered = 0
  for (const range of reply as ReadonlyArray<unknown>) {
    if (!Array.isArray(range)) return undefined
    const [from, to, ...servers] = range as ReadonlyArray<unknown>
    const names = servers.flatMap((server) => {
      const place = placeOf(server, asked, natMap)
      if (place === undefined) return []
      places.set(nameOfPlace(place), place)
      return [nameOfPlace(place)]
    })
    const [master, ...others] = names
    if (typeof from !== "number" || typeof to !== "number" || master === undefined) continue
    replicas.set(master, others)
    for (let slot = from; slot <= to; slot++) owners[slot] = master
    covered += to - from + 1
  }
  return { owners, replicas, places, isWhole: covered >= slotCount }
}

const placeOf = (server: unknown, asked: Place, natMap: NatMap | undefined): Place | undefined => {
  if (!Array.isArray(server)) return undefined
  const [host, port] = server as ReadonlyArray<unknown>
  if (typeof port !== "number") return undefined
  // A server that does not know its own address leaves it out.
  return translated({ host: typeof host === "string" && host !== "" && host !== "?" ? host : asked.host, port }, natMap)
}

/** The place that a redirection by a server at `from` names. */
export const redirectedTo = (address: string, from: Place, natMap: NatMap | undefined): Place => {
  const { host, port } = placeOfName(address)
  return translated({ host: host === "" || host === "?" ? from.host : host, port }, natMap)
}
