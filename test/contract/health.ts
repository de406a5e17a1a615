/** What Health must do on every engine. */
import { assert, layer as suite } from "@effect/vitest"
import { DateTime, type Duration, Effect, Fiber, type Layer, Stream } from "effect"
import { Health } from "../../src/Health.ts"
import { badInput } from "./badInput/health.ts"

/** What every `Health` engine must do. `age` lets a report become too old to be given again. */
export const health = <E>(
  engine: string,
  layer: Layer.Layer<Health, E>,
  age: Effect.Effect<void>,
  options?: { readonly excludeTestServices?: boolean }
) =>
  suite(layer, options)(`Health (${engine})`, (it) => {
    it.effect("reports what works as healthy, with the engine and the time", () =>
      Effect.gen(function*() {
        const health = yield* Health
        yield* age
        const before = yield* DateTime.now
        const report = yield* health.check
        assert.strictEqual(report.status, "healthy")
        assert.deepStrictEqual(report.reasons, [])
        assert.strictEqual(report.components.redis.status, "healthy")
        assert.strictEqual(report.components.redis.details.engine, engine === "memory" ? "memory" : "redis")
        assert.match(report.timestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
        assert.isAtLeast(DateTime.makeUnsafe(report.timestamp).epochMilliseconds, before.epochMilliseconds)
      }))

    it.effect("reports in JSON as it stands", () =>
      Effect.gen(function*() {
        const report = yield* (yield* Health).check
        assert.deepStrictEqual(JSON.parse(JSON.stringify(report)), withoutUndefined(report))
      }))

    it.effect("gives a report again while it is fresh, and then a new one", () =>
      Effect.gen(function*() {
        const health = yield* Health
        yield* age
        const first = yield* health.check
        assert.strictEqual((yield* health.check).timestamp, first.timestamp)
        yield* age
        assert.notStrictEqual((yield* health.check).timestamp, first.timestamp)
      }))

    it.effect("is alive", () =>
      Effect.gen(function*() {
        const liveness = yield* (yield* Health).live
        assert.strictEqual(liveness.status, "alive")
        assert.isTrue(DateTime.make(liveness.timestamp)._tag === "Some")
      }))

    it.effect("is ready when what it requires works", () =>
      Effect.gen(function*() {
        const readiness = yield* (yield* Health).ready
        assert.strictEqual(readiness.status, "ready")
        assert.deepStrictEqual(readiness.reasons, [])
        assert.deepStrictEqual(readiness.required, { redis: "healthy" })
      }))

    it.effect("watches: a report now, and one after each interval", () =>
      Effect.gen(function*() {
        const health = yield* Health
        const seen = yield* Effect.forkChild(health.watch("1 millis").pipe(Stream.take(3), Stream.runCollect))
        while (seen.pollUnsafe() === undefined) yield* age
        const reports = yield* Fiber.join(seen)
        assert.deepStrictEqual(reports.map(({ status }) => status), ["healthy", "healthy", "healthy"])
      }))

    it.effect.each<Duration.Input>(["0 millis", "-1 seconds", "Infinity", Number.NaN, "soon" as "1 second"])(
      "refuses to watch every %s",
      (interval) =>
        Effect.gen(function*() {
          const error = yield* Effect.flip(Stream.runHead((yield* Health).watch(interval)))
          assert.strictEqual(error._tag, "InvalidInput")
          assert.strictEqual(error.input, "interval")
        })
    )

    badInput(it)
  })

/** JSON has no fields without a value. */
const withoutUndefined = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(withoutUndefined)
  if (typeof value !== "object" || value === null) return value
  return Object.fromEntries(
    Object.entries(value).flatMap(([key, field]) => field === undefined ? [] : [[key, withoutUndefined(field)]])
  )
}
