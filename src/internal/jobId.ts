/** Ids that sort by time, that no two processes make alike, and that need no server to make. */

// In the order of their character codes, so that ids sort as the numbers they spell do.
const alphabet = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"

const spell = (value: number, length: number): string => {
  let text = ""
  let rest = value
  for (let i = 0; i < length; i++) {
    text = alphabet[rest % 64]! + text
    rest = Math.floor(rest / 64)
  }
  return text
}

/** 2025 in seconds since 1970: counted from there, they need a character less until 2059. */
const firstSecond = 1_735_689_600
const counterLimit = 64 ** 3

/**
 * Makes ids of 14 characters, all that Redis holds in 16 bytes: 30 bits of seconds, 36 bits of this process, 18 bits of a
 * counter. It begins each second at the same place, which is this process' own: two that drew the same 36 bits still make
 * different ids, unless those places are closer to each other than the ids that they make in a second are many. A
 * partition stands before the counter, so that ids of one batch differ in their ends only.
 */
export const makeIds = (): (nowMillis: number, partition?: number) => string => {
  const random = crypto.getRandomValues(new Uint32Array(3))
  const process = spell(random[0]! * 16 + random[1]! % 16, 6)
  const counterStart = random[2]! % (counterLimit / 2)
  let second = 0
  let head = spell(second, 5) + process
  let counter = counterStart - 1
  const begin = (next: number) => {
    second = next
    head = spell(second, 5) + process
    counter = counterStart
  }
  return (nowMillis, partition) => {
    const now = Math.floor(nowMillis / 1000) - firstSecond
    counter++
    // A clock that steps back must not bring old ids again; and who makes more than fit into a second is ahead of it.
    if (now > second) begin(now)
    else if (counter === counterLimit) begin(second + 1)
    const tail = spell(counter, 3)
    return partition === undefined ? head + tail : `${head}.${partition}.${tail}`
  }
}

const withPartition = /^[-\w]{11}\.(\d{1,3})\.[-\w]{3}$/

/** The partition that an id made here carries; undefined for any other id. */
export const partitionIn = (id: string): number | undefined => {
  const found = withPartition.exec(id)
  return found === null ? undefined : Number(found[1])
}
