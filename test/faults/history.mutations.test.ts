/** The checker of histories sees what goes wrong without what the queue's promises rest on. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { check } from "../support/history/checker.ts"
import { mutated, type Mutation, mutations } from "../support/history/mutations.ts"
import { runTroubled, troubled } from "../support/history/scenarios.ts"

/** What is seen of a short trial on changed sources. */
const judge = (mutation: Mutation) =>
  Effect.gen(function*() {
    const history = yield* runTroubled(5000, yield* mutated(mutation))
    const { done, violations } = check(history, troubled)
    // What was changed does run, apart from that.
    assert.isAbove(done, 200)
    return { history, broken: new Set(violations.map(({ rule }) => rule)) }
  })

describe("A queue", () => {
  it.live("that believes whoever reports is seen to hear those whose lease has passed", () =>
    Effect.gen(function*() {
      const { broken } = yield* judge(mutations.noTokenCheck)
      assert.includeMembers([...broken], ["only the last holder is heard", "a job ends once"])
    }), 60_000)

  it.live("that takes back nothing from those who have gone is seen to lose their jobs", () =>
    Effect.gen(function*() {
      const { broken, history } = yield* judge(mutations.noReaper)
      assert.deepStrictEqual([...broken], ["nothing is lost"])
      // Not that the others would have needed more time.
      const left = history.flatMap((entry) => entry.kind === "counts" ? [entry] : [])
      assert.deepStrictEqual(left.map(({ delayed, waiting }) => waiting + delayed), [0, 0])
      assert.isAbove(left[0]!.active, 0)
    }), 60_000)
})
