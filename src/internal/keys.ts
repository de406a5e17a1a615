/** How every Redis key and channel is spelled, and which names may be part of one. */
import { Effect, Result } from "effect"
import { InvalidInput } from "../RedisError.ts"

/** Names longer than this are refused: they would cost more than what they name. */
export const maxNameBytes = 512

/** The namespace of what is declared `shared`. No service can be called so, since `@` is escaped in names. */
export const sharedNamespace = "@shared"

const special = /[%{}:*?[\]\\@\s\p{Cc}]/gu

/**
 * Spells a name so that it can stand between `{` and `}` in a key: reversible, never empty, and two names never
 * collide. Most names stay as they are.
 */
export const escapeName = (name: string): string => name.replace(special, escapeCharacter)

const escapeCharacter = (character: string): string => {
  let escaped = escapes.get(character)
  if (escaped === undefined) {
    escaped = Array.from(Buffer.from(character), (byte) => `%${byte.toString(16).padStart(2, "0").toUpperCase()}`).join(
      ""
    )
    escapes.set(character, escaped)
  }
  return escaped
}

// Names with colons are common, and spelling one anew costs more than the rest of a key. There are about 100 to know.
const escapes = new Map<string, string>()

/** The name that `escapeName` spelled. */
export const unescapeName = (escaped: string): string => decodeURIComponent(escaped)

/** Refuses what no key can be made of. `input` says what the name is for, like `queue name`. */
export const checkName = (input: string, name: string): Result.Result<string, InvalidInput> => {
  if (typeof name !== "string") return Result.fail(new InvalidInput({ input, problem: "it is not a string" }))
  if (name === "") return Result.fail(new InvalidInput({ input, problem: "it is empty" }))
  if (!name.isWellFormed()) return Result.fail(new InvalidInput({ input, problem: "it holds half a surrogate pair" }))
  // A UTF-16 unit takes at least one byte, so that a short name needs no counting.
  if (name.length * 3 > maxNameBytes && Buffer.byteLength(name) > maxNameBytes) {
    return Result.fail(new InvalidInput({ input, problem: `it is longer than ${maxNameBytes} bytes` }))
  }
  return Result.succeed(name)
}

/** `checkName`, failing in an effect. */
export const requireName = (input: string, name: string): Effect.Effect<string, InvalidInput> =>
  Effect.fromResult(checkName(input, name))

/** The part that all keys of one queue, lock or limit begin with. Its braces put them into one hash slot. */
export const keyBase = (namespace: string, service: string, name: string): string =>
  `${namespace}:${service}:{${escapeName(name)}}`
