/** Lua scripts that name their keys and arguments, so that no one counts `KEYS` and `ARGV` positions. */
import { type Result, Schema } from "effect"
import { createHash } from "node:crypto"

/**
 * A Lua script with keys `Key`, arguments `Arg`, optionally further arguments (`Rest`), and a decoded reply `A`.
 *
 * Its text depends on `offsetMillis`, by which tests move the server's time; programs use 0.
 */
export interface RedisScript<in out Key extends string, in out Arg extends string, in out Rest extends string, out A> {
  readonly name: string
  readonly keys: ReadonlyArray<Key>
  readonly args: ReadonlyArray<Arg>
  readonly rest: Rest | undefined
  readonly text: (offsetMillis: number) => ScriptText
  readonly decode: (reply: unknown) => Result.Result<A, Schema.SchemaError>
}

/** What is sent: the script in full, and the hash that the server knows it by. */
export interface ScriptText {
  readonly lua: string
  readonly sha: string
}

/** A key or an argument of a script. */
export type ScriptValue = string | number | Buffer

/** The values for a script's named keys and arguments. */
export type ScriptValues<Key extends string, Arg extends string, Rest extends string> =
  & { readonly [K in Key | Arg]: ScriptValue }
  & { readonly [R in Rest]: ReadonlyArray<ScriptValue> }

/** `now_ms` is the server's time in milliseconds; `now_us` the same in microseconds. */
const timePrelude = (offsetMillis: number) =>
  `local time = redis.call("TIME")
local now_us = time[1] * 1000000 + time[2]${offsetMillis === 0 ? "" : ` + ${offsetMillis} * 1000`}
local now_ms = math.floor(now_us / 1000)`

// Not by `unpack`, which has no room for more than some thousands.
const readRest = (rest: string, after: number) =>
  `local ${rest} = {} for i = ${after} + 1, #ARGV do ${rest}[i - ${after}] = ARGV[i] end`

/**
 * Declares a script. Its body reads each key and argument as a Lua local of that name; `rest` names a table of all
 * further arguments. With `time`, it also reads `now_ms` and `now_us`: the server's time, the only one that decides.
 *
 * A script that fails half-way keeps what it wrote: check everything before the first write.
 *
 * @example
 * ```ts
 * import { Schema } from "effect"
 * import { RedisScript } from "effect-redis-kit"
 *
 * // Raises a counter up to a limit. Replies 1 when it did.
 * export const countUpTo = RedisScript.make({
 *   name: "counter.upTo",
 *   keys: ["counter"],
 *   args: ["limit"],
 *   result: Schema.BooleanFromBit,
 *   lua: `
 * if tonumber(redis.call("GET", counter) or "0") >= tonumber(limit) then
 *   return 0
 * end
 * redis.call("INCR", counter)
 * return 1
 * `
 * })
 * ```
 */
export const make = <
  const Key extends string,
  A,
  const Arg extends string = never,
  const Rest extends string = never
>(options: {
  /** Names the script in errors, spans and the server's slow log. */
  readonly name: string
  /** The keys that it touches: all of them, in one hash slot. */
  readonly keys: ReadonlyArray<Key>
  readonly args?: ReadonlyArray<Arg> | undefined
  readonly rest?: Rest | undefined
  readonly time?: boolean | undefined
  readonly result: Schema.ConstraintDecoder<A>
  readonly lua: string
}): RedisScript<Key, Arg, Rest, A> => {
  const args = options.args ?? []
  const render = (offsetMillis: number): ScriptText => {
    const lua = [
      `-- ${options.name}`,
      ...options.keys.map((key, i) => `local ${key} = KEYS[${i + 1}]`),
      ...args.map((arg, i) => `local ${arg} = ARGV[${i + 1}]`),
      ...(options.rest === undefined ? [] : [readRest(options.rest, args.length)]),
      ...(options.time === true ? [timePrelude(offsetMillis)] : []),
      options.lua.trim(),
      ""
    ].join("\n")
    return { lua, sha: createHash("sha1").update(lua).digest("hex") }
  }
  const atServerTime = render(0)
  return {
    name: options.name,
    keys: options.keys,
    args,
    rest: options.rest,
    text: (offsetMillis) => offsetMillis === 0 || options.time !== true ? atServerTime : render(offsetMillis),
    decode: Schema.decodeUnknownResult(options.result)
  }
}
