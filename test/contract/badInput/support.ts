/** Input that makes no sense, input that is only unusual, and how a contract says what becomes of it. */
import { assert } from "@effect/vitest"
import { Cause, type Context, Duration, Effect, Exit, Schema } from "effect"
import * as fc from "fast-check"
import { inspect } from "node:util"
import { InvalidInput } from "../../../src/RedisError.ts"

/** The effect fails with `InvalidInput` for `input`, in words; a defect or a success is a fault. */
export const refuses = <A, R>(
  input: string,
  effect: Effect.Effect<A, { readonly _tag: string }, R>,
  about?: unknown
): Effect.Effect<void, never, R> =>
  Effect.map(Effect.exit(effect), (exit) => {
    if (Exit.isSuccess(exit)) return assert.fail(`${input} was taken: ${shown(about)}`)
    const error: unknown = Cause.squash(exit.cause)
    assert.isTrue(error instanceof InvalidInput, `${shown(about)}: ${Cause.pretty(exit.cause)}`)
    if (!(error instanceof InvalidInput)) return
    assert.strictEqual(error.input, input, shown(about))
    assert.isNotEmpty(error.problem)
  })

const shown = (about: unknown) => inspect(about).slice(0, 200)

/** `run` with `count` values of `arbitrary`. */
export const forAll = <A, E, R>(
  arbitrary: fc.Arbitrary<A>,
  count: number,
  run: (value: A) => Effect.Effect<void, E, R>
): Effect.Effect<void, never, R> =>
  Effect.contextWith((context: Context.Context<R>) =>
    Effect.promise(() =>
      fc.assert(fc.asyncProperty(arbitrary, (value) => Effect.runPromiseWith(context)(run(value))), { numRuns: count })
    )
  )

const nastyNames = [
  "a",
  "A",
  " a",
  "a ",
  "a b",
  "a\nb",
  "a\r\n",
  "\0",
  "a\0",
  "{a}",
  "{}",
  "{",
  "}",
  "}a{",
  "a:b",
  ":",
  "*",
  "?",
  "[a]",
  "\\",
  "%",
  "%61",
  "%7D",
  "@",
  "@shared",
  "__proto__",
  "constructor",
  "toString",
  "é",
  "e\u0301",
  "\u{1F600}",
  "\ufeffa",
  "\u2028",
  "0",
  "-1",
  "x".repeat(512),
  "ä".repeat(256)
]

/** Whatever a name may be: anything that is well-formed, not empty, and fits into 512 bytes. */
export const anyName: fc.Arbitrary<string> = fc.oneof(
  fc.constantFrom(...nastyNames),
  fc.string({ unit: "binary", minLength: 1, maxLength: 100 }),
  fc.string({ unit: fc.constantFrom("a", "b", ":", "{", "}", "*", "%", "\0", "\n", " "), minLength: 1, maxLength: 4 })
).filter((name) => name.isWellFormed() && Buffer.byteLength(name) <= 512)

/** Names that differ. */
export const differentNames = (most: number): fc.Arbitrary<ReadonlyArray<string>> =>
  fc.uniqueArray(anyName, { minLength: 2, maxLength: most })

/** What no name may be. */
export const noName: fc.Arbitrary<string> = fc.oneof(
  fc.constantFrom("", "\ud800", "\udc00", "a\udfffb", "\udc00\ud800", "x".repeat(513), "ä".repeat(257)),
  fc.tuple(fc.string(), fc.integer({ min: 0xd800, max: 0xdbff }), fc.string({ unit: "grapheme-ascii" })).map(
    ([before, half, after]) => before + String.fromCharCode(half) + after
  )
)

/** What is no duration that anything could last for. */
export const noDuration: fc.Arbitrary<Duration.Input> = fc.oneof(
  fc.constantFrom<Duration.Input>(
    NaN,
    -1,
    -Number.MIN_VALUE,
    Infinity,
    -Infinity,
    -1n,
    "-1 second",
    " -1 second",
    "Infinity",
    "soon" as "1 second",
    "" as "1 second",
    "1e400 seconds" as "1 second",
    [NaN, 0],
    [0, NaN],
    [0, -1],
    [Infinity, 0],
    { seconds: NaN },
    { seconds: -1 },
    { days: 1, hours: -25 },
    Duration.infinity,
    Duration.negativeInfinity,
    Duration.seconds(-1)
  ),
  fc.double({ max: -Number.MIN_VALUE, noNaN: true })
)

/** Numbers that are not whole numbers from `from` to `to`. */
export const notWhole = (from: number, to: number): fc.Arbitrary<number> =>
  fc.oneof(
    fc.constantFrom(
      NaN,
      Infinity,
      -Infinity,
      from - 1,
      from + 0.5,
      to + 1,
      -Number.MIN_VALUE,
      -1e300,
      2 ** 1023
    ),
    fc.double().filter((number) => !Number.isInteger(number) || number < from || number > to)
  ).filter((number) => !(Number.isInteger(number) && number >= from && number <= to))

const key = fc.oneof(
  fc.constantFrom("__proto__", "constructor", "prototype", "toString", "", "\0", "\ud800"),
  fc.string()
)

/** What JSON can hold, with the keys and texts that break those who take data for something else. */
export const anyJson: fc.Arbitrary<unknown> = fc.letrec<{ readonly value: unknown }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4, depthSize: "small" },
    fc.constantFrom(
      null,
      true,
      false,
      0,
      1e308,
      -1e-320,
      Number.MAX_SAFE_INTEGER,
      "",
      "\0",
      "\ud800",
      "a\udc00b",
      "\u2028"
    ),
    fc.string({ unit: "binary" }),
    fc.double({ noNaN: true, noDefaultInfinity: true }).map((number) => number === 0 ? 0 : number),
    fc.array(tie("value"), { maxLength: 4 }),
    fc.array(fc.tuple(key, tie("value")), { maxLength: 4 }).map((entries): unknown => Object.fromEntries(entries))
  )
})).value

/** Nothing that was read has changed what all objects have in common. */
export const assertUnpolluted = (): void => {
  const bare: Record<string, unknown> = {}
  for (const name of ["polluted", "a", "0", ""]) assert.isUndefined(bare[name])
  assert.strictEqual(bare.constructor, Object)
}

/** An array in an array, so many times. */
export const nested = (levels: number): unknown => {
  let value: unknown = []
  for (let level = 1; level < levels; level++) value = [value]
  return value
}

/** How many arrays stand in one another; deep equality would not get to the bottom of it. */
export const depthOf = (value: unknown): number => {
  let levels = 0
  for (let inner: unknown = value; Array.isArray(inner); inner = inner[0]) levels++
  return levels
}

/** From what everyone can write to what no recursion gets through. */
export const depths = [1, 100, 1000, 10_000, 200_000]

/** A schema whose own recursion is as deep as the value. */
export interface Tree {
  readonly c: ReadonlyArray<Tree>
}
export const Tree: Schema.Codec<Tree> = Schema.Struct({
  c: Schema.Array(Schema.suspend((): Schema.Codec<Tree> => Tree))
})

export const tree = (levels: number): Tree => {
  let value: Tree = { c: [] }
  for (let level = 1; level < levels; level++) value = { c: [value] }
  return value
}

/** Values of many kinds, and what they are when they have been sent as JSON. */
export const Kinds = Schema.Struct({
  bytes: Schema.Uint8Array,
  date: Schema.Date,
  number: Schema.Number,
  bigint: Schema.BigInt,
  map: Schema.ReadonlyMap(Schema.String, Schema.Finite),
  record: Schema.Record(Schema.String, Schema.String)
})

export const anyKinds: fc.Arbitrary<typeof Kinds.Type> = fc.record({
  bytes: fc.uint8Array(),
  date: fc.oneof(fc.date({ noInvalidDate: true }), fc.constantFrom(new Date(8.64e15), new Date(-8.64e15))),
  number: fc.oneof(fc.double(), fc.constantFrom(NaN, Infinity, -Infinity)).map((number) => number === 0 ? 0 : number),
  bigint: fc.bigInt(),
  map: fc.array(fc.tuple(fc.string({ unit: "binary" }), fc.integer())).map((entries) => new Map(entries)),
  record: fc.dictionary(key, fc.string({ unit: "binary" }), { noNullPrototype: true })
})

/** A value of `Kinds` but for what no JSON can hold. */
export const badKinds: ReadonlyArray<typeof Kinds.Type> = [new Date(NaN), new Date(8.64e15 + 1), "never" as never].map(
  (date) => ({
    bytes: new Uint8Array(),
    date,
    number: 1,
    bigint: 1n,
    map: new Map(),
    record: {}
  })
)
