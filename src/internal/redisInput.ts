/** What the everyday commands take: checked before anything is sent. */
import { type Duration, Effect, Result } from "effect"
import { InvalidInput, type RedisError } from "../RedisError.ts"
import { checkMillis } from "./duration.ts"
import { checkName } from "./keys.ts"
import type { SetHow } from "./redisEngine.ts"

/** The largest value, in bytes. */
export const maxValueBytes = 16 * 1024 * 1024
/** How many keys or fields one call takes. */
export const maxBatch = 10_000
/** A hundred years. */
const maxTtlMillis = 36_500 * 86_400_000

const invalid = (input: string, problem: string) => Result.fail(new InvalidInput({ input, problem }))

export const checkTtl = (ttl: Duration.Input) => checkMillis("ttl", ttl, 1, maxTtlMillis)

export const checkField = (field: string) => checkName("field", field)

/** A field of a hash with its value. */
export const checkEntry = (entry: readonly [field: string, value: string]) =>
  Result.flatMap(checkField(entry[0]), () => Result.map(checkValue(entry[1]), () => entry))

export const checkValue = (value: string): Result.Result<string, InvalidInput> => {
  if (typeof value !== "string") return invalid("value", "it is not a string")
  if (!value.isWellFormed()) return invalid("value", "it holds half a surrogate pair")
  // A UTF-16 unit takes at most three bytes, so that small values need no counting.
  return value.length * 3 > maxValueBytes && Buffer.byteLength(value) > maxValueBytes
    ? invalid("value", `it takes more than ${maxValueBytes} bytes`)
    : Result.succeed(value)
}

export const checkIncrement = (by: number): Result.Result<number, InvalidInput> =>
  Number.isSafeInteger(by) ? Result.succeed(by) : invalid("increment", "it is not a whole number below 2^53")

export const checkCount = (count: number): Result.Result<number, InvalidInput> =>
  Number.isInteger(count) && count >= 1 && count <= maxBatch
    ? Result.succeed(count)
    : invalid("count", `it is not a whole number from 1 to ${maxBatch}`)

/** SET's options; undefined when it is as plain as can be. */
export const checkSetting = (
  options: {
    readonly ttl?: Duration.Input | undefined
    readonly keepTtl?: boolean | undefined
    readonly onlyIf?: "absent" | "present" | undefined
  } | undefined
): Result.Result<SetHow | undefined, InvalidInput> => {
  if (options === undefined) return plain
  const { keepTtl = false, onlyIf, ttl } = options
  if (ttl === undefined) return Result.succeed({ ttlMillis: undefined, keepTtl, onlyIf })
  if (keepTtl) return invalid("ttl", "it is given together with keepTtl")
  return Result.map(checkTtl(ttl), (ttlMillis) => ({ ttlMillis, keepTtl, onlyIf }))
}

const plain = Result.succeed(undefined)

/** Runs on many at once; on none, nothing is sent. */
export const withMany = <In, Out, A>(
  input: string,
  items: ReadonlyArray<In>,
  check: (item: In) => Result.Result<Out, InvalidInput>,
  empty: A,
  run: (checked: ReadonlyArray<Out>) => Effect.Effect<A, RedisError>
): Effect.Effect<A, InvalidInput | RedisError> => {
  if (items.length > maxBatch) return Effect.fromResult(invalid(input, `there are more than ${maxBatch}`))
  const checked: Array<Out> = []
  for (const item of items) {
    const result = check(item)
    if (Result.isFailure(result)) return Effect.fail(result.failure)
    checked.push(result.success)
  }
  return checked.length === 0 ? Effect.succeed(empty) : run(checked)
}

/** Runs with what was checked, or fails with what is wrong with it. */
export const withChecked = <In, A, E>(
  checked: Result.Result<In, InvalidInput>,
  run: (value: In) => Effect.Effect<A, E>
): Effect.Effect<A, E | InvalidInput> => Result.isSuccess(checked) ? run(checked.success) : Effect.fail(checked.failure)
