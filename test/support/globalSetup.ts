/** The servers that all suites of a test run share. vitest calls this before the first test. */
import { Effect, Exit, Scope } from "effect"
import type { TestProject } from "vitest/node"
import { offer } from "./onDemand.ts"
import { RedisCluster } from "./redisCluster.ts"
import { RedisSentinel } from "./redisSentinel.ts"
import { RedisServer } from "./redisServer.ts"
import type { SharedServers } from "./sharedRedis.ts"

/** Starts the standalone server, promises the others, and returns how to stop them all. */
export default async (project: TestProject): Promise<() => Promise<void>> => {
  const scope = Scope.makeUnsafe()
  const run = <A>(effect: Effect.Effect<A, never, Scope.Scope>) => Effect.runPromise(Scope.provide(effect, scope))
  const server = await run(RedisServer.start())
  project.provide("redisUrl", server.url)
  // A Cluster takes two seconds, which most files that run alone can do without.
  const others = await offer<keyof SharedServers>({
    cluster: () => run(Effect.map(RedisCluster.start(), ({ addresses }) => addresses)),
    sentinels: () => run(Effect.map(RedisSentinel.start(), ({ addresses, name }) => ({ name, nodes: addresses })))
  })
  project.provide("sharedServersPort", others.port)
  return async () => {
    await others.close()
    await Effect.runPromise(Scope.close(scope, Exit.void))
  }
}
