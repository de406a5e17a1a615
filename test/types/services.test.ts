/** What is inferred of all services at once. */
import type { Config, Layer } from "effect"
import { expectTypeOf, test } from "vitest"
import type { DistributedLock } from "../../src/DistributedLock.ts"
import type { Health } from "../../src/Health.ts"
import type { JobQueue } from "../../src/JobQueue.ts"
import type { PubSub } from "../../src/PubSub.ts"
import type { RateLimiter } from "../../src/RateLimiter.ts"
import type { Redis } from "../../src/Redis.ts"
import type { RedisClient } from "../../src/RedisClient.ts"
import type { RedisError } from "../../src/RedisError.ts"
import { type Services, ServicesAuto, ServicesLive, ServicesMemory } from "../../src/Services.ts"

test("the services are these, and need nothing", () => {
  expectTypeOf<Services>().toEqualTypeOf<Redis | PubSub | JobQueue | DistributedLock | RateLimiter | Health>()
  expectTypeOf(ServicesMemory).toEqualTypeOf<Layer.Layer<Services>>()
  expectTypeOf(ServicesAuto).toEqualTypeOf<Layer.Layer<Services, RedisError | Config.ConfigError>>()
})

test("the connection itself is there on Redis only", () => {
  expectTypeOf(ServicesLive).toEqualTypeOf<Layer.Layer<Services | RedisClient, RedisError | Config.ConfigError>>()
  // @ts-expect-error: memory has no connection
  const live: Layer.Layer<RedisClient> = ServicesMemory
  void live
})
