/** The one Redis server that all suites of a test run share. vitest calls this before the first test. */
import { Effect, Exit, Scope } from "effect"
import type { TestProject } from "vitest/node"
import { RedisServer } from "./redisServer.ts"

/** Starts the server, and returns how to stop it. */
export default async (project: TestProject): Promise<() => Promise<void>> => {
  const scope = Scope.makeUnsafe()
  const server = await Effect.runPromise(Scope.provide(RedisServer.start(), scope))
  project.provide("redisUrl", server.url)
  return () => Effect.runPromise(Scope.close(scope, Exit.void))
}
