/** Where servers are, how they are called by that, and who tells when another one counts. */
import type { NatMap } from "../RedisSettings.ts"

/** A server as Node connects to it. */
export interface Place {
  readonly host: string
  readonly port: number
}

/** Has a function called with the place of a master whenever that may be another; yields how to end it. */
export type WatchMaster = (watcher: (master: Place) => void) => () => void

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
