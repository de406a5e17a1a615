/** Every service keeps its contract on the master that Sentinels name. */
import { beforeAll } from "@effect/vitest"
import { Effect } from "effect"
import type { RedisSettings } from "../../src/RedisSettings.ts"
import { contracts } from "../support/contracts.ts"
import { sharedSentinels } from "../support/sharedRedis.ts"

let settings: RedisSettings = {}
beforeAll(async () => {
  settings = { sentinel: await Effect.runPromise(sharedSentinels) }
}, 30_000)

contracts("sentinel", () => settings)
