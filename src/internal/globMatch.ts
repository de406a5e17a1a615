/** How a glob pattern, once read, is matched: the same over characters and over bytes. */

/** One unit of a text, or any number of them. */
export type Token = "*" | ((unit: string) => boolean)

/**
 * Whether all of `units` match. Only the last `*` is ever tried again, so that no pattern takes more than the product of
 * both lengths.
 */
export const matchesTokens = (tokens: ReadonlyArray<Token>, units: ArrayLike<string>): boolean => {
  let token = 0
  let at = 0
  let star = -1
  let starredTo = 0
  while (at < units.length) {
    const expected = tokens[token]
    if (expected === "*") {
      star = token++
      starredTo = at
    } else if (expected?.(units[at]!) === true) {
      token++
      at++
    } else if (star >= 0) {
      token = star + 1
      at = ++starredTo
    } else return false
  }
  while (tokens[token] === "*") token++
  return token === tokens.length
}
