/** What has happened to jobs, process by process, and whether the queue kept its word. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { check, checkFifo } from "../support/history/checker.ts"
import { Single } from "../support/history/jobs.ts"
import { runTroubled, runUntroubled, troubled, untroubled } from "../support/history/scenarios.ts"

describe("The history of jobs", () => {
  it.live("is one start each, in order, as long as nothing goes wrong", () =>
    Effect.gen(function*() {
      const history = yield* runUntroubled
      const verdict = check(history, untroubled)
      assert.deepStrictEqual(verdict.violations, [])
      assert.isAbove(verdict.done, 100)
      assert.deepStrictEqual(Object.values(verdict.duplicates).filter((count) => count > 0), [])
      assert.deepStrictEqual(checkFifo(history, Single.queue), [])
    }), 60_000)

  it.live(
    "is one end each when a worker is killed, one stopped, one cut off, and one heard too late",
    () =>
      Effect.gen(function*() {
        const verdict = check(yield* runTroubled(15_000), troubled)
        assert.deepStrictEqual(verdict.violations, [])
        assert.strictEqual(verdict.lost, 0)
        assert.isAbove(verdict.done, 200)
        assert.isAbove(verdict.duplicates.killed, 0)
        assert.isAbove(verdict.duplicates.paused, 0)
      }),
    60_000
  )
})
