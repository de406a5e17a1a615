/** Glob patterns over names that are escaped on the wire. */
import { Result } from "effect"
import { InvalidInput } from "../RedisError.ts"
import { matchesTokens, type Token } from "./globMatch.ts"
import { escapeName } from "./keys.ts"

/** A pattern, as it is meant and as the server is told. */
export interface Glob {
  readonly matches: (name: string) => boolean
  /**
   * Matches all escaped names that `matches` matches, and some more: an escaped character is several bytes, so that
   * the server cannot tell what one character is.
   */
  readonly spelled: string
}

/** The inclusive range of characters that a class holds. */
type Range = readonly [from: string, to: string]

/** Reads a pattern. */
export const parseGlob = (pattern: string): Result.Result<Glob, InvalidInput> => {
  const characters = Array.from(pattern)
  const tokens: Array<Token> = []
  let spelled = ""
  const literal = (character: string) => {
    tokens.push((other) => other === character)
    spelled += escapeName(character)
  }
  for (let i = 0; i < characters.length; i++) {
    const character = characters[i]!
    if (character === "*") {
      tokens.push("*")
      spelled += "*"
    } else if (character === "?") {
      tokens.push(() => true)
      spelled += "?*"
    } else if (character === "[") {
      const read = readClass(characters, i)
      if (read === undefined) {
        return Result.fail(
          new InvalidInput({ input: "channel pattern", problem: "it has a [ with no ] or nothing in it" })
        )
      }
      tokens.push(read.matches)
      spelled += read.spelled
      i = read.end
    } else literal(character === "\\" && i + 1 < characters.length ? characters[++i]! : character)
  }
  return Result.succeed({
    matches: (name) => matchesTokens(tokens, Array.from(name)),
    spelled: spelled.replace(/\*+/g, "*")
  })
}

const readClass = (characters: ReadonlyArray<string>, start: number) => {
  const negated = characters[start + 1] === "^"
  const ranges: Array<Range> = []
  let i = start + (negated ? 2 : 1)
  const next = () =>
    characters[i] === "\\" && i + 1 < characters.length ? (i += 2, characters[i - 1]!) : characters[i++]!
  while (i < characters.length && characters[i] !== "]") {
    const from = next()
    if (characters[i] === "-" && i + 1 < characters.length && characters[i + 1] !== "]") {
      i++
      const to = next()
      ranges.push(codeOf(from) <= codeOf(to) ? [from, to] : [to, from])
    } else ranges.push([from, from])
  }
  if (i >= characters.length || ranges.length === 0) return undefined
  return {
    end: i,
    matches: (character: string) => {
      const code = codeOf(character)
      return ranges.some(([from, to]) => codeOf(from) <= code && code <= codeOf(to)) !== negated
    },
    spelled: !negated && ranges.every(isPlain) ? `[${ranges.map(([from, to]) => `${from}-${to}`).join("")}]` : "?*"
  }
}

const codeOf = (character: string) => character.codePointAt(0)!

// One byte each, and the same when escaped: the server may decide on these.
const isPlain = ([from, to]: Range) =>
  [/^[0-9]$/, /^[A-Z]$/, /^[a-z]$/].some((kind) => kind.test(from) && kind.test(to))
