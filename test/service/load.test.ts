/** The example service under load, in short. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { runLoad } from "./load.ts"

describe("the service under load", () => {
  it.live("loses nothing when a worker is killed at work and an API is restarted", () =>
    Effect.gen(function*() {
      const { figures, problems } = yield* runLoad({ appointments: 400, clients: 20 })
      assert.deepStrictEqual(problems, [], JSON.stringify(figures, undefined, 2))
    }), { timeout: 90_000 })
})
