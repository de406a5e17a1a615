/** That a seed says what goes wrong, and that enough does. */
import { assert, describe, it } from "@effect/vitest"
import { type Fault, plan } from "./plan.ts"

const leaseMillis = 1500
const kindsIn = (seconds: number, seed: number) => {
  const faults = plan(seed, seconds, leaseMillis).map(({ fault }) => fault)
  return (...kinds: ReadonlyArray<Fault["kind"]>) => faults.filter(({ kind }) => kinds.includes(kind)).length
}

describe("The plan of a chaos run", () => {
  it("is the same for the same seed, and another for another", () => {
    assert.deepStrictEqual(plan(7, 60, leaseMillis), plan(7, 60, leaseMillis))
    assert.notDeepEqual(plan(7, 60, leaseMillis), plan(8, 60, leaseMillis))
  })

  it("is in order, and within its time", () => {
    const times = plan(7, 60, leaseMillis).map(({ atMillis }) => atMillis)
    assert.deepStrictEqual(times, times.toSorted((a, b) => a - b))
    assert.isAtMost(times.at(-1)!, 60_000)
  })

  it("has some of everything in each 20 seconds, whatever the seed", () => {
    for (let seed = 0; seed < 200; seed++) {
      const count = kindsIn(20, seed)
      assert.isAtLeast(count("kill"), 4)
      assert.isAtLeast(count("pause"), 2)
      assert.isAtLeast(count("restart"), 1)
      assert.isAtLeast(count("replace"), 1)
      assert.isAtLeast(count("cut", "block"), 12)
    }
  })
})
