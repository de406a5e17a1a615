/** The fixed window of Effect's RateLimiter on Redis, with its default options. */
import { NodeRedis } from "@effect/platform-node"
import { Effect, Layer, ManagedRuntime } from "effect"
import { RateLimiter } from "effect/persistence"
import { fromCallers } from "../ours/callers.ts"
import { limit } from "../ratelimit.ts"

/** @type {import("../support/case.ts").Open<import("../ratelimit.ts").RateLimitAdapter>} */
export const open = async (port) => {
  const runtime = ManagedRuntime.make(
    RateLimiter.layer.pipe(
      Layer.provide(RateLimiter.layerStoreRedis()),
      Layer.provide(NodeRedis.layer({ url: `redis://127.0.0.1:${port}` }))
    )
  )
  const limiter = await runtime.runPromise(RateLimiter.RateLimiter)
  return {
    check: (callers, next, onVerdict) =>
      runtime.runPromise(fromCallers(callers, next, (key) =>
        // It fails when it denies a call.
        Effect.map(
          limiter.consume({ key, limit, window: "1 minute", algorithm: "fixed-window" }),
          () => onVerdict(true)
        ))),
    close: () => runtime.dispose()
  }
}
