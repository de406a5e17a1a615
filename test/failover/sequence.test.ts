/** The judge of counters in `npm run failover`. */
import { assert, describe, it } from "@effect/vitest"
import { makeSequence } from "./sequence.ts"

/** A number was acknowledged, `?` is an unknown outcome; the last number is the counter's end. */
const judge = (...story: ReadonlyArray<number | "?">) => {
  const sequence = makeSequence()
  for (const event of story.slice(0, -1)) {
    if (event === "?") sequence.unknown()
    else sequence.acknowledged(event)
  }
  sequence.end(Number(story.at(-1)))
  return sequence.verdict()
}

describe("A counter's replies", () => {
  it("tell nothing when each INCR ran once", () => {
    assert.deepStrictEqual(judge(1, 2, 3, 3), { lost: 0, twice: 0 })
  })

  it("leave room for what is unknown, whether it ran at once, later or never", () => {
    assert.deepStrictEqual(judge(1, "?", 3, 3), { lost: 0, twice: 0 })
    assert.deepStrictEqual(judge(1, "?", 2, 4, 4), { lost: 0, twice: 0 })
    assert.deepStrictEqual(judge(1, "?", 2, 2), { lost: 0, twice: 0 })
    assert.deepStrictEqual(judge(1, "?", 2), { lost: 0, twice: 0 })
  })

  it("tell of one that ran twice", () => {
    assert.deepStrictEqual(judge(1, 3, 3), { lost: 0, twice: 1 })
    assert.deepStrictEqual(judge(1, "?", 4, 4), { lost: 0, twice: 1 })
    assert.deepStrictEqual(judge(1, 2, 3), { lost: 0, twice: 1 })
  })

  it("tell how many of those acknowledged are gone", () => {
    assert.deepStrictEqual(judge(1, 2, 3, 4, 2, 3, 3), { lost: 3, twice: 0 })
    assert.deepStrictEqual(judge(1, 2, 3, 1), { lost: 2, twice: 0 })
    assert.deepStrictEqual(judge(1, 2, "?", 2, 2), { lost: 1, twice: 0 })
  })
})
