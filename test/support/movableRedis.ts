/** A Redis connection whose server's time moves with the TestClock, so that leases pass without waiting. */
import { Duration, Effect, Layer } from "effect"
import { TestClock } from "effect/testing"
import { ServerClock } from "../../src/internal/serverClock.ts"
import { RedisClient } from "../../src/RedisClient.ts"
import type { RedisSettings } from "../../src/RedisConfig.ts"
import { type Elapse, elapseLive } from "./elapse.ts"

const stepMillis = 250

/** `elapse` moves both clocks in small steps, and lets what each step sets off reach the server and come back. */
export const movableRedis = (settings: () => RedisSettings) => {
  const serverClock = { offsetMillis: 0 }
  let settled: Effect.Effect<unknown> = Effect.void
  const layer = Layer.suspend(() => RedisClient.layer(settings())).pipe(
    Layer.provide(Layer.succeed(ServerClock, serverClock)),
    Layer.tap((context) =>
      Effect.sync(() => {
        // One connection, so that this reply comes after the others.
        settled = Effect.ignore(
          Effect.provide(RedisClient.use((client) => client.use("ping", (redis) => redis.ping())), context)
        )
      })
    )
  )
  const elapse: Elapse = (duration) =>
    Effect.gen(function*() {
      for (let left = Duration.toMillis(duration); left > 0; left -= stepMillis) {
        serverClock.offsetMillis += Math.min(stepMillis, left)
        yield* TestClock.adjust(Math.min(stepMillis, left))
        yield* settled
        yield* elapseLive("1 millis")
      }
    })
  return { layer, elapse }
}
