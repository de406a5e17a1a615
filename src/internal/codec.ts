/** Schema to text and back, with the codec built once. */
import { Result, Schema } from "effect"
import { InvalidInput } from "../RedisError.ts"
import { problemOf, problemOfThrown } from "./schemaProblem.ts"

/** The largest value that is sent, in bytes, unless a service says otherwise. */
export const maxPayloadBytes = 1024 * 1024

/** A schema whose values travel as JSON and need no services to be encoded or decoded. */
export type WireSchema<A> = Schema.Codec<A, any>

/**
 * Encodes to a JSON text, and decodes from one. Neither throws, whatever code of its user's a schema runs, and neither
 * result holds the value in its error.
 */
export interface Codec<in out A> {
  readonly encode: (value: A) => Result.Result<string, InvalidInput>
  readonly decode: (text: string) => Result.Result<A, { readonly message: string }>
}

/** Builds the codec of `schema`; `input` names the values in errors, like `payload`. */
export const makeCodec = <A>(input: string, schema: WireSchema<A>, maxBytes = maxPayloadBytes): Codec<A> => {
  const json = Schema.toCodecJson(schema)
  const toJson = Schema.encodeUnknownResult(json)
  const fromJson = Schema.decodeUnknownResult(json)
  const refuse = (problem: string) => Result.fail(new InvalidInput({ input, problem }))
  return {
    encode: (value) => {
      let text: string | undefined
      try {
        const encoded = toJson(value)
        if (Result.isFailure(encoded)) return refuse(problemOf(encoded.failure))
        text = JSON.stringify(encoded.success)
      } catch (thrown) {
        return refuse(problemOfThrown(thrown))
      }
      if (text === undefined) return refuse("it is nothing that JSON can hold")
      // A UTF-16 unit takes at most three bytes, so that small values need no counting.
      return text.length * 3 > maxBytes && Buffer.byteLength(text) > maxBytes
        ? refuse(`it takes more than ${maxBytes} bytes`)
        : Result.succeed(text)
    },
    decode: (text) => {
      let parsed: unknown
      try {
        parsed = JSON.parse(text)
      } catch {
        return Result.fail({ message: "it is not JSON" })
      }
      try {
        const decoded = fromJson(parsed)
        return Result.isSuccess(decoded) ? decoded : Result.fail({ message: problemOf(decoded.failure) })
      } catch (thrown) {
        return Result.fail({ message: problemOfThrown(thrown) })
      }
    }
  }
}
