/** Every service keeps its contract on a Redis Cluster of three masters and three replicas. */
import { beforeAll } from "@effect/vitest"
import { Effect } from "effect"
import type { RedisSettings } from "../../src/RedisSettings.ts"
import { contracts } from "../support/contracts.ts"
import { sharedClusterNodes } from "../support/sharedRedis.ts"

let settings: RedisSettings = {}
beforeAll(async () => {
  settings = { cluster: { nodes: await Effect.runPromise(sharedClusterNodes) } }
}, 30_000)

contracts("cluster", () => settings)
