/** What is inferred of health. */
import type { Effect, Layer, Stream } from "effect"
import type { HttpRouter } from "effect/http"
import { expectTypeOf, test } from "vitest"
import { Health, HealthLive, type HealthReport, type Liveness, type Readiness } from "../../src/Health.ts"
import { healthRoutes } from "../../src/http/index.ts"
import type { RedisClient } from "../../src/RedisClient.ts"
import type { InvalidInput } from "../../src/RedisError.ts"

declare const health: Health["Service"]

test("nothing that Health reports can fail", () => {
  expectTypeOf<typeof health.check>().toEqualTypeOf<Effect.Effect<HealthReport>>()
  expectTypeOf<typeof health.live>().toEqualTypeOf<Effect.Effect<Liveness>>()
  expectTypeOf<typeof health.ready>().toEqualTypeOf<Effect.Effect<Readiness>>()
})

test("only an interval that makes no sense fails a watch", () => {
  expectTypeOf<ReturnType<typeof health.watch>>().toEqualTypeOf<Stream.Stream<HealthReport, InvalidInput>>()
})

test("Redis' details are typed, those of other components are JSON", () => {
  expectTypeOf<HealthReport["components"]["redis"]["details"]["role"]>().toEqualTypeOf<
    "master" | "replica" | undefined
  >()
  expectTypeOf<HealthReport["status"]>().toEqualTypeOf<"healthy" | "degraded" | "unhealthy">()
})

test("the live layers need a connection, the memory layer needs nothing, the routes need Health", () => {
  expectTypeOf(HealthLive).toEqualTypeOf<Layer.Layer<Health, never, RedisClient>>()
  expectTypeOf(Health.layer({ deadline: "1 second" })).toEqualTypeOf<Layer.Layer<Health, InvalidInput, RedisClient>>()
  expectTypeOf(Health.layerMemory).toEqualTypeOf<Layer.Layer<Health>>()
  expectTypeOf(healthRoutes).toEqualTypeOf<Layer.Layer<never, never, HttpRouter.HttpRouter | Health>>()
  // @ts-expect-error: there is no such option
  Health.layer({ timeout: "1 second" })
})
