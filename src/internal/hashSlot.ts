/** Which of a Cluster's hash slots a key falls into: CRC16 (XMODEM) of its hash tag, as the Cluster specification says. */
import { RedisError } from "../RedisError.ts"
import { slotCount } from "./redirection.ts"

const polynomial = 0x1021

const table = Uint16Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 8
  for (let bit = 0; bit < 8; bit++) crc = (crc & 0x8000) === 0 ? crc << 1 : (crc << 1) ^ polynomial
  return crc & 0xffff
})

const crc16 = (bytes: Uint8Array): number => {
  let crc = 0
  for (const byte of bytes) crc = ((crc << 8) & 0xffff) ^ table[(crc >> 8) ^ byte]!
  return crc
}

/** What of a key decides: what stands in its first braces, if anything does; else all of it. */
const hashTag = (key: string): string => {
  const from = key.indexOf("{")
  if (from < 0) return key
  const to = key.indexOf("}", from + 1)
  return to > from + 1 ? key.slice(from + 1, to) : key
}

const crcOfText = (text: string): number => {
  let crc = 0
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i)
    if (unit > 127) return crc16(Buffer.from(text))
    crc = ((crc << 8) & 0xffff) ^ table[(crc >> 8) ^ unit]!
  }
  return crc
}

/** The slot of a key, from 0 to 16383. */
export const slotOf = (key: string | Uint8Array): number => {
  if (typeof key === "string") return crcOfText(hashTag(key)) % slotCount
  // Byte by byte the same as the text, for bytes that are no text.
  const latin = Buffer.from(key).toString("latin1")
  return crc16(Buffer.from(hashTag(latin), "latin1")) % slotCount
}

/** The one slot of many keys; undefined when there are none, or an error that tells where they part. */
export const commonSlot = (
  command: string,
  keys: ReadonlyArray<string | Uint8Array>,
  nameOf: (place: number) => string = (place) => `key ${place + 1}`
): number | undefined | RedisError => {
  let slot: number | undefined
  let tag: string | undefined
  for (const [i, key] of keys.entries()) {
    // Most have the same tag, which need not be counted again.
    const own = typeof key === "string" ? hashTag(key) : undefined
    if (own !== undefined && own === tag) continue
    tag = own
    const other = slotOf(key)
    slot ??= other
    if (other === slot) continue
    return new RedisError({
      command,
      reason: "cross-slot",
      outcome: "NotSent",
      detail: `${nameOf(0)} is in hash slot ${slot}, and ${nameOf(i)} in ${other}: ` +
        "a Cluster runs this only on keys of one slot, which a common {hash tag} puts them into"
    })
  }
  return slot
}

/** The places of keys, those of each slot together, in their order. */
export const bySlot = (keys: ReadonlyArray<string>): ReadonlyArray<ReadonlyArray<number>> => {
  const groups = new Map<number, Array<number>>()
  for (const [place, key] of keys.entries()) {
    const slot = slotOf(key)
    const places = groups.get(slot)
    if (places === undefined) groups.set(slot, [place])
    else places.push(place)
  }
  return [...groups.values()]
}
