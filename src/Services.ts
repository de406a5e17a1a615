/** All services at once: on Redis, in memory, or whichever the environment configures. */
import { type Config, Effect, Layer } from "effect"
import { DistributedLock, DistributedLockLive } from "./DistributedLock.ts"
import { Health, HealthLive } from "./Health.ts"
import { JobQueue, JobQueueLive } from "./JobQueue.ts"
import { PubSub, PubSubLive } from "./PubSub.ts"
import { RateLimiter, RateLimiterLive } from "./RateLimiter.ts"
import { Redis, RedisLive } from "./Redis.ts"
import type { RedisClient } from "./RedisClient.ts"
import * as RedisConfig from "./RedisConfig.ts"
import type { RedisError } from "./RedisError.ts"

/** What every program can ask for, whatever it runs on. `RedisClient` is there on Redis only. */
export type Services = Redis | PubSub | JobQueue | DistributedLock | RateLimiter | Health

/**
 * All services on one connection to the Redis that the environment names. Fails when it cannot be reached, or when a
 * variable is malformed.
 */
export const ServicesLive: Layer.Layer<Services | RedisClient, RedisError | Config.ConfigError> = Layer.mergeAll(
  PubSubLive,
  JobQueueLive,
  DistributedLockLive,
  RateLimiterLive,
  HealthLive
).pipe(Layer.provideMerge(RedisLive))

/** All services in this process, under Effect's Clock. Their data end with it. */
export const ServicesMemory: Layer.Layer<Services> = Layer.mergeAll(
  Redis.layerMemory,
  PubSub.layerMemory,
  JobQueue.layerMemory,
  DistributedLock.layerMemory,
  RateLimiter.layerMemory,
  Health.layerMemory
)

/**
 * All services on Redis when the environment says where it is (see `RedisConfig.isConfigured`), otherwise in memory; the
 * log says which.
 *
 * Never falls back: fails when a variable is malformed, when there are some for a Redis of which none says where it is, or
 * when the Redis that is named cannot be reached.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { Health, ServicesAuto } from "effect-redis-kit"
 *
 * const program = Effect.gen(function*() {
 *   const report = yield* (yield* Health).check
 *   yield* Effect.log(`${report.status} on ${report.components.redis.details.engine}`)
 * })
 *
 * export const main = Effect.provide(program, ServicesAuto)
 * ```
 */
export const ServicesAuto: Layer.Layer<Services, RedisError | Config.ConfigError> = Layer.unwrap(
  Effect.gen(function*() {
    // Read in any case: a malformed REDIS_PORT is a mistake also where REDIS_HOST was forgotten.
    yield* RedisConfig.config
    if (yield* RedisConfig.isConfigured) {
      yield* Effect.logInfo("Services run on Redis, which the environment names")
      return ServicesLive
    }
    yield* Effect.logInfo(
      "Services run in memory, and their data end with this process: the environment names no Redis (REDIS_URL, REDIS_HOST, REDIS_CLUSTER_NODES or REDIS_SENTINELS)"
    )
    return ServicesMemory
  })
)
