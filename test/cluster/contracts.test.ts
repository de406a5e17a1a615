/** Every service keeps its contract on a Redis Cluster of three masters and three replicas. */
import { afterAll, beforeAll } from "@effect/vitest"
import { Effect, Exit, Scope } from "effect"
import { contracts } from "../support/contracts.ts"
import { RedisCluster } from "../support/redisCluster.ts"

const scope = Scope.makeUnsafe()
let cluster: RedisCluster
beforeAll(async () => {
  cluster = await Effect.runPromise(Scope.provide(RedisCluster.start(), scope))
}, 30_000)
afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))

contracts("cluster", () => ({ url: cluster.url }))
