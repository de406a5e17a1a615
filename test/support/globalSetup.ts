/** The servers that all suites of a test run share. vitest calls this before the first test. */
import { Effect, Exit, Scope } from "effect"
import { globSync } from "node:fs"
import { relative } from "node:path"
import type { TestProject } from "vitest/node"
import { offer } from "./onDemand.ts"
import { RedisCluster } from "./redisCluster.ts"
import { RedisSentinel } from "./redisSentinel.ts"
import { RedisServer } from "./redisServer.ts"
import { namedIn, problemsOf, reliability } from "./reliability.ts"
import type { SharedServers } from "./sharedRedis.ts"

/** As in production, so that nobody is warned of the contrary. */
const kept = { persistence: "aof-everysec" } as const

/** A run of all files that leaves out a test which docs/reliability.md names is a failed run. */
const checkReliability = ({ vitest: { config, state } }: TestProject) => {
  const modules = state.getTestModules()
  const files = globSync("test/**/*.test.ts", { cwd: config.root })
  if (modules.length < files.length || config.testNamePattern !== undefined) return
  const ran = modules.flatMap((module) =>
    Array.from(module.children.allTests(), (test) => ({
      file: relative(config.root, module.moduleId),
      name: test.name,
      passed: test.result().state === "passed"
    }))
  )
  for (const problem of problemsOf(namedIn(reliability()), ran)) {
    console.error(`docs/reliability.md: ${problem}`)
    process.exitCode = 1
  }
}

/** Starts the standalone server, promises the others, and returns how to stop them all. */
export default async (project: TestProject): Promise<() => Promise<void>> => {
  const scope = Scope.makeUnsafe()
  const run = <A>(effect: Effect.Effect<A, never, Scope.Scope>) => Effect.runPromise(Scope.provide(effect, scope))
  const server = await run(RedisServer.start(kept))
  project.provide("redisUrl", server.url)
  // A Cluster takes two seconds, which most files that run alone can do without.
  const others = await offer<keyof SharedServers>({
    cluster: () => run(Effect.map(RedisCluster.start(kept), ({ addresses }) => addresses)),
    sentinels: () => run(Effect.map(RedisSentinel.start(kept), ({ addresses, name }) => ({ name, nodes: addresses })))
  })
  project.provide("sharedServersPort", others.port)
  return async () => {
    await others.close()
    await Effect.runPromise(Scope.close(scope, Exit.void))
    checkReliability(project)
  }
}
