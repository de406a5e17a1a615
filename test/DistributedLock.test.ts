/** DistributedLock: its contract on both engines, and what is true on Redis only. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Config, ConfigProvider, Duration, Effect, Exit, Layer, Option, Result, Scope } from "effect"
import * as fc from "fast-check"
import { DistributedLock } from "../src/DistributedLock.ts"
import type { Lease } from "../src/Lease.ts"
import { RedisClient } from "../src/RedisClient.ts"
import { distributedLock } from "./contract/distributedLock.ts"
import { elapseTest } from "./support/elapse.ts"
import { movableRedis } from "./support/movableRedis.ts"
import { pausableClock } from "./support/pausableClock.ts"
import { sharedRedisUrl, uniqueNamespace } from "./support/sharedRedis.ts"

distributedLock("memory", DistributedLock.layerMemory, elapseTest)

const redis = movableRedis(() => ({ url: sharedRedisUrl(), namespace: uniqueNamespace() }))
const layerRedis = Layer.provide(DistributedLock.layer(), redis.layer)

distributedLock("redis", layerRedis, redis.elapse)

type Operation =
  | { readonly do: "take" | "release" | "extend"; readonly owner: number; readonly key: string }
  | { readonly do: "inspect"; readonly key: string }
  | { readonly do: "write"; readonly key: string; readonly token: number; readonly lasts: boolean }
  | { readonly do: "elapse" }

const key = fc.constantFrom("one", "two", "}{:*")

const operations: fc.Arbitrary<ReadonlyArray<Operation>> = fc.array(
  fc.oneof(
    fc.record({
      do: fc.constantFrom("take" as const, "release" as const, "extend" as const),
      owner: fc.nat(2),
      key
    }),
    fc.record({ do: fc.constant("inspect" as const), key }),
    fc.record({ do: fc.constant("write" as const), key, token: fc.integer({ min: 1, max: 4 }), lasts: fc.boolean() }),
    fc.record({ do: fc.constant("elapse" as const) })
  ),
  { minLength: 5, maxLength: 25 }
)

interface Hold {
  readonly lease: Lease
  readonly scope: Scope.Closeable
}

/** An engine, and who holds what on it. */
const player = (locks: DistributedLock["Service"], run: number) => {
  const holds = new Map<string, Hold>()
  const ownerOf = (holder: string) => [...holds].find(([, { lease }]) => lease.holder === holder)?.[0]
  return (step: Exclude<Operation, { readonly do: "elapse" }>): Effect.Effect<unknown, unknown> =>
    Effect.gen(function*() {
      const name = `${run} ${step.key}`
      if (step.do === "inspect") {
        return Option.map(yield* locks.inspect(name), ({ holder, waiters }) => [ownerOf(holder), waiters])
      }
      if (step.do === "write") {
        const lasting = step.lasts ? {} : { ttl: "1500 millis" as const }
        const written = yield* Effect.result(locks.guardedSet(step, name, `${step.token}`, lasting))
        return [Result.isSuccess(written), yield* locks.guardedGet(name)]
      }
      const slot = `${step.owner} ${step.key}`
      const hold = holds.get(slot)
      if (step.do === "take" && hold === undefined) {
        const scope = yield* Scope.make()
        const taken = yield* Effect.result(Scope.provide(locks.tryAcquire(name, { ttl: "2500 millis" }), scope))
        if (Result.isSuccess(taken)) holds.set(slot, { lease: taken.success, scope })
        return Result.isSuccess(taken)
      }
      if (hold === undefined) return "nothing to do"
      if (step.do === "extend") return Result.isSuccess(yield* Effect.result(hold.lease.extend()))
      yield* Scope.close(hold.scope, Exit.void)
      holds.delete(slot)
      return "released"
    })
}

describe("DistributedLock", () => {
  it.effect("does in memory, step by step, what it does on Redis", () =>
    Effect.gen(function*() {
      const inMemory = yield* Effect.provide(DistributedLock, yield* Layer.build(DistributedLock.layerMemory))
      const onRedis = yield* Effect.provide(DistributedLock, yield* Layer.build(layerRedis))
      // Holders that stand still extend nothing, so that leases pass.
      const stopped = yield* pausableClock
      yield* stopped.pause({ monotonic: true })
      const context = yield* Effect.context()
      let runs = 0
      const agree = (steps: ReadonlyArray<Operation>) =>
        Effect.gen(function*() {
          const players = [inMemory, onRedis].map((locks) => player(locks, runs))
          runs += 1
          for (const step of steps) {
            if (step.do === "elapse") yield* redis.elapse("1 second")
            else {
              const [a, b] = yield* Effect.forEach(
                players,
                (play) => Effect.provideService(play(step), Clock.Clock, stopped.clock)
              )
              assert.deepStrictEqual(a, b)
            }
          }
        })
      yield* Effect.promise(() =>
        fc.assert(
          fc.asyncProperty(operations, (steps) => Effect.runPromiseWith(context)(agree(steps))),
          { numRuns: 30 }
        )
      )
    }))

  it.effect("tells when it is built which of its options is out of range", () =>
    Effect.gen(function*() {
      const client = RedisClient.layer({ url: sharedRedisUrl(), namespace: uniqueNamespace() })
      for (const [options, input] of [[{ ttl: 1 }, "lock ttl"], [{ wait: NaN }, "lock wait"]] as const) {
        const built = Layer.build(Layer.provide(DistributedLock.layer(options), client))
        assert.deepInclude(yield* Effect.flip(Effect.scoped(built)), { _tag: "InvalidInput", input })
      }
    }))

  it.live("takes from its options, or the configuration, what a call leaves open", () =>
    Effect.gen(function*() {
      const remaining = Effect.scoped(Effect.gen(function*() {
        const locks = yield* DistributedLock
        yield* locks.acquire("busy")
        const timeout = yield* Effect.flip(Effect.scoped(locks.acquire("busy")))
        const status = Option.getOrThrow(yield* locks.inspect("busy"))
        return [timeout, Duration.toMillis(status.remaining)] as const
      }))
      const client = RedisClient.layer({ url: sharedRedisUrl(), namespace: uniqueNamespace() })
      for (
        const layer of [
          DistributedLock.layer({ ttl: "5 minutes", wait: 0 }),
          DistributedLock.layerConfig({ ttl: Config.Duration("LOCK_TTL"), wait: Config.succeed(0) }).pipe(
            Layer.provide(ConfigProvider.layer(ConfigProvider.fromUnknown({ LOCK_TTL: "5 minutes" })))
          )
        ]
      ) {
        const [timeout, millis] = yield* Effect.provide(remaining, Layer.provide(layer, client))
        assert.deepInclude(timeout, { _tag: "LockTimeout", waitedMillis: 0 })
        assert.approximately(millis, 300_000, 10_000)
      }
    }))
})
