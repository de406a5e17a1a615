/** Every service's contract, on one way to deploy Redis. */
import { Duration, Effect, Layer } from "effect"
import { setTimeout as sleep } from "node:timers/promises"
import { DistributedLock } from "../../src/DistributedLock.ts"
import { Health } from "../../src/Health.ts"
import { ServerClock } from "../../src/internal/serverClock.ts"
import { JobQueue } from "../../src/JobQueue.ts"
import { PubSubLive } from "../../src/PubSub.ts"
import { RateLimiter } from "../../src/RateLimiter.ts"
import { Redis } from "../../src/Redis.ts"
import { RedisClient } from "../../src/RedisClient.ts"
import type { RedisSettings } from "../../src/RedisSettings.ts"
import { distributedLock } from "../contract/distributedLock.ts"
import { health } from "../contract/health.ts"
import { jobQueue } from "../contract/jobQueue.ts"
import { pubSub } from "../contract/pubSub.ts"
import { rateLimiter } from "../contract/rateLimiter.ts"
import { redis } from "../contract/redis.ts"
import { type Elapse, elapseLive } from "./elapse.ts"
import { movableRedis } from "./movableRedis.ts"
import { uniqueNamespace } from "./sharedRedis.ts"

const live = { excludeTestServices: true }

/** A server's time that tests move; what the move made due is found a moment later. */
const movable = () => {
  const clock = { offsetMillis: 0 }
  const elapse: Elapse = (duration) =>
    Effect.promise(() => {
      clock.offsetMillis += Duration.toMillis(duration)
      return sleep(50)
    })
  return { clock, layer: Layer.succeed(ServerClock, clock), elapse }
}

/** Runs all of them as `engine`, each in a namespace of its own on what `settings` lead to. */
export const contracts = (engine: string, settings: () => RedisSettings): void => {
  const own = (): RedisSettings => ({ ...settings(), namespace: uniqueNamespace() })
  const client = Layer.suspend(() => RedisClient.layer(own()))

  redis(engine, Layer.suspend(() => Redis.layer(own())), elapseLive, live)
  pubSub(engine, Layer.provide(PubSubLive, client), elapseLive, live)
  const locks = movableRedis(own)
  distributedLock(engine, Layer.provide(DistributedLock.layer(), locks.layer), locks.elapse)
  const limits = movable()
  rateLimiter(
    engine,
    RateLimiter.layer().pipe(Layer.provide(client), Layer.provide(limits.layer)),
    limits.elapse,
    live
  )
  health(engine, Layer.provide(Health.layer({ cache: "50 millis" }), client), elapseLive("60 millis"), live)
  const jobs = movable()
  jobQueue(engine, {
    layer: (options) => JobQueue.layer(options).pipe(Layer.provide(client), Layer.provide(jobs.layer)),
    elapse: jobs.elapse,
    now: Effect.sync(() => Date.now() + jobs.clock.offsetMillis),
    worker: { poll: "20 millis" }
  }, live)
}
