/** A Sentinel that knows no others. */
import { Effect, type Scope } from "effect"
import { RedisServer } from "./redisServer.ts"

/** Starts one that takes `watched` for the master. */
export const loneSentinel = (
  watched: { readonly port: number },
  name = "main"
): Effect.Effect<RedisServer, never, Scope.Scope> =>
  Effect.gen(function*() {
    const sentinel = yield* RedisServer.start({ args: ["--sentinel"] })
    yield* sentinel.cli("SENTINEL", "MONITOR", name, "127.0.0.1", watched.port, 1)
    return sentinel
  })

/** It takes `watched` for the master from now on. */
export const watchInstead = (sentinel: RedisServer, watched: { readonly port: number }, name = "main") =>
  Effect.andThen(
    sentinel.cli("SENTINEL", "REMOVE", name),
    sentinel.cli("SENTINEL", "MONITOR", name, "127.0.0.1", watched.port, 1)
  )
