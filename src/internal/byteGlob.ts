/**
 * Glob patterns as the server reads them: byte by byte. In ranges like `[a-ä]`, bytes beyond ASCII come last here; on a
 * server that depends on its processor.
 */
import { matchesTokens, type Token } from "./globMatch.ts"

// A character of such a text is a byte of the UTF-8 that the server sees.
const bytesOf = (text: string): string => Buffer.from(text).toString("latin1")

/** Whether a key matches. Any pattern means something: a `[` that is not closed goes to the end. */
export const parseGlob = (pattern: string): (key: string) => boolean => {
  const tokens = parse(bytesOf(pattern))
  return (key) => matchesTokens(tokens, bytesOf(key))
}

const parse = (pattern: string): ReadonlyArray<Token> => {
  const tokens: Array<Token> = []
  for (let i = 0; i < pattern.length; i++) {
    const byte = pattern[i]!
    if (byte === "*") tokens.push("*")
    else if (byte === "?") tokens.push(() => true)
    else if (byte === "[") {
      const read = parseClass(pattern, i + 1)
      tokens.push(read.matches)
      i = read.end
    } else {
      const literal = byte === "\\" && i + 1 < pattern.length ? pattern[++i] : byte
      tokens.push((other) => other === literal)
    }
  }
  return tokens
}

const parseClass = (pattern: string, start: number): { readonly matches: (byte: string) => boolean; end: number } => {
  const negated = pattern[start] === "^"
  const ranges: Array<readonly [from: string, to: string]> = []
  let i = negated ? start + 1 : start
  for (; i < pattern.length && pattern[i] !== "]"; i++) {
    if (pattern[i] === "\\" && i + 1 < pattern.length) i++
    else if (pattern[i + 1] === "-" && i + 2 < pattern.length) {
      const [from, to] = [pattern[i]!, pattern[i + 2]!]
      ranges.push(from <= to ? [from, to] : [to, from])
      i += 2
      continue
    }
    ranges.push([pattern[i]!, pattern[i]!])
  }
  return { matches: (byte) => ranges.some(([from, to]) => from <= byte && byte <= to) !== negated, end: i }
}
