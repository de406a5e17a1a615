/** Every service keeps its contract on the master that Sentinels name. */
import { afterAll, beforeAll } from "@effect/vitest"
import { Effect, Exit, Scope } from "effect"
import { contracts } from "../support/contracts.ts"
import { RedisSentinel } from "../support/redisSentinel.ts"

const scope = Scope.makeUnsafe()
let sentinel: RedisSentinel
beforeAll(async () => {
  sentinel = await Effect.runPromise(Scope.provide(RedisSentinel.start(), scope))
}, 30_000)
afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))

contracts("sentinel", () => ({ url: sentinel.url }))
