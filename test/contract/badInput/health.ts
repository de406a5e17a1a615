/** The contract of Health: what is refused. */
import type { Vitest } from "@effect/vitest"
import { Effect, Stream } from "effect"
import * as fc from "fast-check"
import { Health } from "../../../src/Health.ts"
import { forAll, noDuration, refuses } from "./support.ts"

export const badInput = (it: Vitest.MethodsNonLive<Health>): void => {
  it.effect("refuses to watch at whatever is no interval", () =>
    Effect.gen(function*() {
      const health = yield* Health
      yield* forAll(fc.oneof(noDuration, fc.constantFrom(0, -0)), 60, (interval) =>
        refuses("interval", Stream.runHead(health.watch(interval)), interval))
    }))
}
