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

/** In how many characters ids differ that were made at the same time. */
export const idTailLength = 4
const counterLimit = 64 ** idTailLength

/** Makes ids of 17 characters: 42 bits of time (until 2109), 36 bits of this process, 24 bits of a counter that starts anywhere. */
export const makeIds = (): (nowMillis: number) => string => {
  const random = crypto.getRandomValues(new Uint32Array(3))
  const process = spell(random[0]! * 16 + random[1]! % 16, 6)
  let counter = random[2]! % counterLimit
  let lastMillis = 0
  let head = ""
  return (nowMillis) => {
    // A clock that steps back must not bring old ids again.
    if (nowMillis > lastMillis) {
      lastMillis = nowMillis
      head = spell(nowMillis, 7) + process
    }
    counter = (counter + 1) % counterLimit
    return head + spell(counter, idTailLength)
  }
}
