/** The contract of DistributedLock: what is refused, and what comes through as it is. */
import { assert, type Vitest } from "@effect/vitest"
import { type Duration, Effect, Option } from "effect"
import * as fc from "fast-check"
import { DistributedLock } from "../../../src/DistributedLock.ts"
import { differentNames, forAll, noDuration, noName, notWhole, refuses } from "./support.ts"

const maxBytes = 1024 * 1024

const isFree = (key: string) =>
  Effect.flatMap(DistributedLock, (locks) => Effect.map(locks.inspect(key), Option.isNone))

export const badInput = (it: Vitest.MethodsNonLive<DistributedLock>): void => {
  it.effect("refuses whatever is no key, and runs no work", () =>
    Effect.gen(function*() {
      const locks = yield* DistributedLock
      let ran = 0
      const work = Effect.sync(() => ran++)
      yield* forAll(noName, 60, (name) =>
        Effect.gen(function*() {
          yield* refuses("lock key", locks.withLock(name)(work), name)
          yield* refuses("lock key", Effect.scoped(locks.acquire(name)), name)
          yield* refuses("lock key", Effect.scoped(locks.tryAcquire(name)), name)
          yield* refuses("lock key", locks.inspect(name), name)
          yield* refuses("guarded name", locks.guardedGet(name), name)
          yield* refuses("guarded name", locks.guardedSet({ key: "k", token: 1 }, name, "x"), name)
        }))
      assert.strictEqual(ran, 0)
    }))

  it.effect("refuses whatever is no time to hold, to wait or to keep, and runs no work", () =>
    Effect.gen(function*() {
      const locks = yield* DistributedLock
      let ran = 0
      const work = Effect.sync(() => ran++)
      const noTtl = fc.oneof(noDuration, fc.constantFrom<Duration.Input>(0, 99, "25 hours", 1e300))
      yield* Effect.scoped(Effect.gen(function*() {
        const lease = yield* locks.acquire("held", { ttl: "1 hour" })
        yield* forAll(noTtl, 60, (ttl) =>
          Effect.gen(function*() {
            yield* refuses("lock ttl", locks.withLock("bad", { ttl })(work), ttl)
            yield* refuses("lock ttl", Effect.scoped(locks.acquire("bad", { ttl })), ttl)
            yield* refuses("lock ttl", Effect.scoped(locks.tryAcquire("bad", { ttl })), ttl)
            yield* refuses("lock ttl", lease.extend(ttl), ttl)
          }))
      }))
      yield* forAll(fc.oneof(noDuration, fc.constantFrom<Duration.Input>("25 hours", 1e300)), 60, (wait) =>
        Effect.gen(function*() {
          yield* refuses("lock wait", locks.withLock("bad", { wait })(work), wait)
          yield* refuses("lock wait", Effect.scoped(locks.acquire("bad", { wait })), wait)
        }))
      yield* forAll(fc.oneof(noDuration, fc.constantFrom<Duration.Input>(0, 1e300)), 60, (ttl) =>
        refuses("guarded ttl", locks.guardedSet({ key: "k", token: 1 }, "bad", "x", { ttl }), ttl))
      yield* forAll(notWhole(1, Number.MAX_SAFE_INTEGER), 60, (token) =>
        refuses("guarded value", locks.guardedSet({ key: "k", token }, "bad", "x"), token))
      assert.strictEqual(ran, 0)
      assert.isTrue(yield* isFree("bad"))
      assert.isTrue(Option.isNone(yield* locks.guardedGet("bad")))
    }))

  it.effect("keeps locks and guarded texts apart whose names differ in anything", () =>
    forAll(differentNames(8), 40, (names) =>
      Effect.gen(function*() {
        const locks = yield* DistributedLock
        yield* Effect.scoped(Effect.gen(function*() {
          const leases = yield* Effect.forEach(names, (name) => locks.tryAcquire(name))
          assert.strictEqual(new Set(leases.map(({ holder }) => holder)).size, names.length)
          for (const [i, lease] of leases.entries()) {
            assert.include(Option.getOrThrow(yield* locks.inspect(names[i]!)), { holder: lease.holder })
            yield* locks.guardedSet({ key: lease.key, token: 1 }, names[i]!, `text ${names[i]}`, { ttl: "1 minute" })
          }
          for (const name of names) {
            assert.deepStrictEqual(yield* locks.guardedGet(name), Option.some(`text ${name}`))
          }
        }))
        for (const name of names) assert.isTrue(yield* isFree(name))
      })))

  it.effect("guards any text, as large as it may be, and nothing larger", () =>
    Effect.gen(function*() {
      const locks = yield* DistributedLock
      const lease = { key: "texts", token: 1 }
      yield* forAll(fc.string({ unit: "binary" }).filter((text) => text.isWellFormed()), 60, (text) =>
        Effect.gen(function*() {
          yield* locks.guardedSet(lease, "texts", text)
          assert.deepStrictEqual(yield* locks.guardedGet("texts"), Option.some(text))
        }))
      for (const unit of ["x", "ä"]) {
        const full = unit.repeat(maxBytes / Buffer.byteLength(unit))
        yield* locks.guardedSet(lease, "texts", full)
        assert.isTrue(Option.getOrThrow(yield* locks.guardedGet("texts")) === full)
        yield* refuses("guarded value", locks.guardedSet(lease, "texts", `${full}x`))
      }
      for (const half of ["\ud800", "a\udc00"]) {
        yield* refuses("guarded value", locks.guardedSet(lease, "texts", half))
      }
    }))
}
