/** A Cluster for all tests of a file, and clients on it. */
import { afterAll, beforeAll } from "@effect/vitest"
import { Effect, Exit, Layer, Scope } from "effect"
import { RedisClient } from "../../src/RedisClient.ts"
import type { RedisError } from "../../src/RedisError.ts"
import type { RedisSettings } from "../../src/RedisSettings.ts"
import { type ClusterNode, RedisCluster, type RedisClusterOptions } from "./redisCluster.ts"
import { uniqueNamespace } from "./sharedRedis.ts"

/** Starts a Cluster before the tests of this file, and ends it after them. */
export const suiteCluster = (options?: RedisClusterOptions): () => RedisCluster => {
  const scope = Scope.makeUnsafe()
  let cluster: RedisCluster | undefined
  beforeAll(async () => {
    cluster = await Effect.runPromise(Scope.provide(RedisCluster.start(options), scope))
  }, 30_000)
  afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))
  return () => cluster!
}

/** What leads to a Cluster, in a namespace of its own. */
export const settingsOf = (cluster: RedisCluster, more: RedisSettings = {}): RedisSettings => ({
  namespace: uniqueNamespace(),
  cluster: { nodes: cluster.addresses },
  ...more
})

export const connect = (settings: RedisSettings): Effect.Effect<RedisClient["Service"], RedisError, Scope.Scope> =>
  Effect.flatMap(Layer.build(RedisClient.layer(settings)), (context) => Effect.provide(RedisClient, context))

export const connectTo = (cluster: RedisCluster, more?: RedisSettings) => connect(settingsOf(cluster, more))

/** `count` keys of different slots that a node has now, each beginning with `prefix`. */
export const keysAt = (
  cluster: RedisCluster,
  node: ClusterNode,
  count: number,
  prefix = "k"
): Effect.Effect<ReadonlyArray<string>> =>
  Effect.map(node.cli("CLUSTER", "SLOTS"), (reply) => {
    const ranges = (reply as ReadonlyArray<readonly [number, number, readonly [string, number, string]]>)
      .filter(([, , master]) => master[2] === node.id)
    const keys: Array<string> = []
    for (let i = 0; keys.length < count; i++) {
      const slot = cluster.slotOf(`${prefix}${i}`)
      if (ranges.some(([from, to]) => from <= slot && slot <= to)) keys.push(`${prefix}${i}`)
    }
    return keys
  })

/** A key at each master, in the order of the masters. */
export const keyAtEach = (cluster: RedisCluster, prefix?: string): Effect.Effect<ReadonlyArray<string>> =>
  Effect.flatMap(
    cluster.masters,
    (masters) => Effect.forEach(masters, (master) => Effect.map(keysAt(cluster, master, 1, prefix), ([key]) => key!))
  )

/** A master that does not have a key (a string) or a slot (a number). */
export const anotherMaster = (cluster: RedisCluster, of: string | number): Effect.Effect<ClusterNode> =>
  Effect.gen(function*() {
    const owner = yield* cluster.masterOf(of)
    return (yield* cluster.masters).find((master) => master !== owner)!
  })
