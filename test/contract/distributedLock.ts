/** What every DistributedLock engine must do. */
import { assert, layer as suite } from "@effect/vitest"
import { Clock, Duration, Effect, Exit, Fiber, type Layer, Option, Scope } from "effect"
import { DistributedLock } from "../../src/DistributedLock.ts"
import type { Lease } from "../../src/Lease.ts"
import { type Elapse, elapseLive } from "../support/elapse.ts"
import { pausableClock } from "../support/pausableClock.ts"
import { badInput } from "./badInput/distributedLock.ts"

/** Waits, in real time, for what another fiber or the server is about to do. */
const eventually = (condition: Effect.Effect<boolean, unknown, DistributedLock>) =>
  Effect.gen(function*() {
    while (!(yield* Effect.orDie(condition))) yield* elapseLive("1 millis")
  })

const waitersOf = (key: string) =>
  Effect.flatMap(
    DistributedLock,
    (locks) => Effect.map(locks.inspect(key), Option.match({ onNone: () => 0, onSome: ({ waiters }) => waiters }))
  )

/** Until `count` wait for `key`. */
const inLine = (key: string, count: number) => eventually(Effect.map(waitersOf(key), (waiters) => waiters === count))

const isFree = (key: string) =>
  Effect.flatMap(DistributedLock, (locks) => Effect.map(locks.inspect(key), Option.isNone))

/** What every `DistributedLock` engine must do. `elapse` lets the engine's time and its users' pass together. */
export const distributedLock = <E>(engine: string, layer: Layer.Layer<DistributedLock, E>, elapse: Elapse) =>
  suite(layer)(`DistributedLock (${engine})`, (it) => {
    it.effect("turns a second owner away", () =>
      Effect.gen(function*() {
        const locks = yield* DistributedLock
        yield* locks.tryAcquire("busy")
        const error = yield* Effect.flip(locks.tryAcquire("busy"))
        assert.strictEqual(error._tag, "LockTaken")
        assert.strictEqual(error.message, `Lock "busy" is held by another owner`)
        yield* locks.tryAcquire("idle")
      }))

    it.effect("gives back what the work gives, and its errors", () =>
      Effect.gen(function*() {
        const locks = yield* DistributedLock
        assert.strictEqual(yield* Effect.succeed(1).pipe(locks.withLock("work")), 1)
        assert.strictEqual(yield* Effect.fail("no").pipe(locks.withLock("work"), Effect.flip), "no")
        const [lease, token] = yield* locks.withLock("work")((lease) =>
          Effect.succeed([lease.key, lease.token] as const)
        )
        assert.strictEqual(lease, "work")
        assert.isAbove(token, 0)
      }))

    it.effect("is free once the work succeeds, fails, dies or is interrupted, or the scope closes", () =>
      Effect.gen(function*() {
        const locks = yield* DistributedLock
        for (const work of [Effect.void, Effect.fail("no"), Effect.die("no"), Effect.interrupt]) {
          yield* Effect.exit(locks.withLock("brief")(work))
          assert.isTrue(yield* isFree("brief"))
        }
        const working = yield* Effect.forkChild(locks.withLock("brief")(Effect.never))
        yield* eventually(Effect.map(isFree("brief"), (free) => !free))
        yield* Fiber.interrupt(working)
        assert.isTrue(yield* isFree("brief"))
        yield* Effect.scoped(locks.acquire("brief"))
        assert.isTrue(yield* isFree("brief"))
      }))

    it.effect("tells who holds it, since when, until when, and how many wait", () =>
      Effect.gen(function*() {
        const locks = yield* DistributedLock
        assert.isTrue(Option.isNone(yield* locks.inspect("looked at")))
        const lease = yield* locks.acquire("looked at", { ttl: "10 seconds" })
        yield* Effect.forkScoped(locks.withLock("looked at")(Effect.void))
        yield* inLine("looked at", 1)
        yield* elapse("2 seconds")
        const status = Option.getOrThrow(yield* locks.inspect("looked at"))
        assert.strictEqual(status.holder, lease.holder)
        assert.strictEqual(status.token, lease.token)
        assert.strictEqual(status.waiters, 1)
        assert.closeTo(Duration.toSeconds(status.heldFor), 2, 1)
        assert.closeTo(Duration.toSeconds(status.remaining), 8, 1)
      }))

    it.effect("goes to who waits as soon as it is released", () =>
      Effect.gen(function*() {
        const locks = yield* DistributedLock
        const holder = yield* Scope.make()
        yield* Scope.provide(locks.acquire("awaited"), holder)
        const waiting = yield* Effect.forkChild(locks.withLock("awaited")(Effect.succeed("mine")))
        yield* inLine("awaited", 1)
        yield* Scope.close(holder, Exit.void)
        assert.strictEqual(yield* Fiber.join(waiting), "mine")
      }))

    it.effect("comes to those who wait in the order of their coming, and nobody slips in between", () =>
      Effect.gen(function*() {
        const locks = yield* DistributedLock
        const holder = yield* Scope.make()
        const order: Array<number | string> = []
        yield* Scope.provide(locks.acquire("queue"), holder)
        const waiting: Array<Fiber.Fiber<void, unknown>> = []
        for (const n of [1, 2, 3, 4, 5]) {
          const turn = Effect.andThen(Effect.sync(() => order.push(n)), elapseLive("2 millis"))
          waiting.push(yield* Effect.forkChild(locks.withLock("queue")(turn)))
          yield* inLine("queue", n)
        }
        yield* Scope.close(holder, Exit.void)
        const pusher = Effect.ignore(Effect.scoped(Effect.tap(locks.tryAcquire("queue"), () =>
          Effect.sync(() => {
            if (order.length < 5) order.push("pushed in")
          }))))
        yield* Effect.repeat(pusher, { while: () => order.length < 5 })
        yield* Fiber.awaitAll(waiting)
        assert.deepStrictEqual(order, [1, 2, 3, 4, 5])
      }))

    it.effect("is waited for no longer than was asked for", () =>
      Effect.gen(function*() {
        const locks = yield* DistributedLock
        const lease = yield* locks.acquire("late")
        const waiting = yield* Effect.forkChild(Effect.flip(locks.withLock("late", { wait: "3 seconds" })(Effect.void)))
        yield* inLine("late", 1)
        yield* elapse("2 seconds")
        assert.isUndefined(waiting.pollUnsafe())
        yield* elapse("1 second")
        const error = yield* Fiber.join(waiting)
        assert.strictEqual(error._tag, "LockTimeout")
        assert.strictEqual(error.message, `Lock "late" was not free within 3000 ms`)
        assert.strictEqual(yield* waitersOf("late"), 0)
        assert.strictEqual(Option.getOrThrow(yield* locks.inspect("late")).token, lease.token)
      }))

    it.effect("is asked for once when there is no time to wait", () =>
      Effect.gen(function*() {
        const locks = yield* DistributedLock
        yield* locks.acquire("now or never", { wait: 0 })
        const error = yield* Effect.flip(locks.acquire("now or never", { wait: 0 }))
        assert.strictEqual(error._tag, "LockTimeout")
      }))

    it.effect("passes over those who stopped waiting", () =>
      Effect.gen(function*() {
        const locks = yield* DistributedLock
        const holder = yield* Scope.make()
        yield* Scope.provide(locks.acquire("left"), holder)
        const first = yield* Effect.forkChild(locks.withLock("left")(Effect.void))
        yield* inLine("left", 1)
        const second = yield* Effect.forkChild(locks.withLock("left")(Effect.succeed("second")))
        yield* inLine("left", 2)
        yield* Fiber.interrupt(first)
        assert.strictEqual(yield* waitersOf("left"), 1)
        yield* Scope.close(holder, Exit.void)
        assert.strictEqual(yield* Fiber.join(second), "second")
        assert.isTrue(yield* isFree("left"))
      }))

    it.effect("passes over those of whom nothing has been heard", () =>
      Effect.gen(function*() {
        const locks = yield* DistributedLock
        const stopped = yield* pausableClock
        yield* stopped.pause()
        const holder = yield* Scope.make()
        yield* Scope.provide(locks.acquire("unheard"), holder)
        const silent = yield* Effect.forkChild(
          Effect.provideService(locks.withLock("unheard")(Effect.void), Clock.Clock, stopped.clock)
        )
        yield* inLine("unheard", 1)
        yield* elapse("3 seconds")
        const waiting = yield* Effect.forkChild(locks.withLock("unheard")(Effect.succeed("mine")))
        yield* inLine("unheard", 2)
        yield* elapse("4 seconds")
        yield* inLine("unheard", 1)
        yield* Scope.close(holder, Exit.void)
        assert.strictEqual(yield* Fiber.join(waiting), "mine")
        assert.isUndefined(silent.pollUnsafe())
        yield* Fiber.interrupt(silent)
      }))

    it.effect("stays with a holder that takes longer than the ttl", () =>
      Effect.gen(function*() {
        const locks = yield* DistributedLock
        const lease = yield* locks.acquire("long", { ttl: "3 seconds" })
        const work = yield* Effect.forkChild(locks.withLock("longer", { ttl: "3 seconds" })(Effect.never))
        yield* eventually(Effect.map(isFree("longer"), (free) => !free))
        yield* elapse("12 seconds")
        assert.strictEqual(Option.getOrThrow(yield* locks.inspect("long")).token, lease.token)
        assert.isFalse(yield* isFree("longer"))
        assert.isUndefined(work.pollUnsafe())
        yield* Fiber.interrupt(work)
      }))

    it.effect("falls free a ttl after its holder stood still, and then to who waits", () =>
      Effect.gen(function*() {
        const locks = yield* DistributedLock
        const stopped = yield* pausableClock
        yield* stopped.pause()
        yield* Effect.provideService(locks.acquire("stuck", { ttl: "3 seconds" }), Clock.Clock, stopped.clock)
        const waiting = yield* Effect.forkChild(locks.withLock("stuck")(Effect.succeed("mine")))
        yield* inLine("stuck", 1)
        yield* elapse("2 seconds")
        assert.isUndefined(waiting.pollUnsafe())
        yield* elapse("2 seconds")
        assert.strictEqual(yield* Fiber.join(waiting), "mine")
      }))

    it.effect("stays with its next owner when a late holder releases it, or extends it", () =>
      Effect.gen(function*() {
        const locks = yield* DistributedLock
        const stopped = yield* pausableClock
        yield* stopped.pause({ monotonic: true })
        const takeLate = (key: string) =>
          locks.acquire(key, { ttl: "1 second" }).pipe(Effect.provideService(Clock.Clock, stopped.clock))
        const late = yield* Scope.make()
        yield* Scope.provide(takeLate("released late"), late)
        const old = yield* takeLate("extended late")
        yield* elapse("2 seconds")
        const next = [yield* locks.tryAcquire("released late"), yield* locks.tryAcquire("extended late")]
        yield* Scope.close(late, Exit.void)
        assert.deepInclude(yield* Effect.flip(old.extend()), { _tag: "LockLost", reason: "removed" })
        for (const { key, token } of next) {
          assert.strictEqual(Option.getOrThrow(yield* locks.inspect(key)).token, token)
        }
      }))

    const lost = (reason: "removed" | "unconfirmed") =>
      Effect.gen(function*() {
        const locks = yield* DistributedLock
        const events: Array<string> = []
        const stopped = yield* pausableClock
        const work = Effect.never.pipe(
          Effect.onInterrupt(() => Effect.sync(() => events.push("interrupted"))),
          Effect.ensuring(Effect.sync(() => events.push("cleaned up"))),
          locks.withLock(`lost ${reason}`, { ttl: "3 seconds" }),
          Effect.provideService(Clock.Clock, stopped.clock)
        )
        const working = yield* Effect.forkChild(Effect.flip(work))
        yield* eventually(Effect.map(isFree(`lost ${reason}`), (free) => !free))
        // A process that sees the time it lost gives up by itself; one that does not is told by the server.
        yield* stopped.pause({ monotonic: reason === "removed" })
        yield* elapse("4 seconds")
        const next = yield* locks.tryAcquire(`lost ${reason}`)
        assert.deepStrictEqual(events, [])
        yield* stopped.resume
        yield* elapse("1 second")
        const error = yield* Fiber.join(working)
        assert.deepInclude(error, { _tag: "LockLost", key: `lost ${reason}`, reason })
        assert.deepStrictEqual(events, ["interrupted", "cleaned up"])
        assert.strictEqual(Option.getOrThrow(yield* locks.inspect(`lost ${reason}`)).token, next.token)
      })

    it.effect("interrupts the work when it is lost, runs its finalizers, and says so", () => lost("removed"))

    it.effect("interrupts the work when its lease has passed unnoticed", () => lost("unconfirmed"))

    it.effect("tells the holder of a scoped lease of its loss, and interrupts what runs under it", () =>
      Effect.gen(function*() {
        const locks = yield* DistributedLock
        const stopped = yield* pausableClock
        const lease = yield* Effect.provideService(
          locks.acquire("watched", { ttl: "3 seconds" }),
          Clock.Clock,
          stopped.clock
        )
        assert.strictEqual(yield* lease.run(Effect.succeed("done")), "done")
        const watching = yield* Effect.forkChild(Effect.flip(lease.lost))
        const running = yield* Effect.forkChild(Effect.flip(lease.run(Effect.never)))
        yield* stopped.pause()
        yield* elapse("4 seconds")
        yield* stopped.resume
        yield* elapse("1 second")
        assert.strictEqual((yield* Fiber.join(watching))._tag, "LockLost")
        assert.strictEqual((yield* Fiber.join(running))._tag, "LockLost")
      }))

    it.effect("does not call work done that outlasted its lease", () =>
      Effect.gen(function*() {
        const locks = yield* DistributedLock
        const clock = yield* Clock.Clock
        const stopped = yield* pausableClock
        const work = locks.withLock("outlasted", { ttl: "3 seconds" })(
          Effect.andThen(stopped.pause(), Effect.provideService(elapse("4 seconds"), Clock.Clock, clock))
        )
        const error = yield* Effect.flip(Effect.provideService(work, Clock.Clock, stopped.clock))
        assert.deepInclude(error, { _tag: "LockLost", reason: "unconfirmed" })
      }))

    it.effect("lasts longer when it is extended by more", () =>
      Effect.gen(function*() {
        const locks = yield* DistributedLock
        const stopped = yield* pausableClock
        yield* stopped.pause()
        const lease = yield* Effect.provideService(
          locks.acquire("stretched", { ttl: "1 second" }),
          Clock.Clock,
          stopped.clock
        )
        yield* lease.extend("5 seconds")
        yield* lease.extend()
        yield* elapse("3 seconds")
        assert.strictEqual((yield* Effect.flip(locks.tryAcquire("stretched")))._tag, "LockTaken")
        yield* elapse("3 seconds")
        yield* locks.tryAcquire("stretched")
      }))

    it.effect("has a greater token with each owner, and the same one while it is held", () =>
      Effect.gen(function*() {
        const locks = yield* DistributedLock
        const stopped = yield* pausableClock
        yield* stopped.pause()
        const tokens: Array<number> = []
        const note = (lease: Lease) =>
          Effect.gen(function*() {
            yield* lease.extend()
            assert.strictEqual(Option.getOrThrow(yield* locks.inspect("counted")).token, lease.token)
            tokens.push(lease.token)
          })
        for (let i = 0; i < 20; i++) yield* locks.withLock("counted")(note)
        // One lapses, one is handed over.
        yield* locks.acquire("counted", { ttl: "1 second" }).pipe(
          Effect.provideService(Clock.Clock, stopped.clock),
          Effect.tap(note)
        )
        yield* elapse("2 seconds")
        const holder = yield* Scope.make()
        yield* Effect.tap(Scope.provide(locks.acquire("counted"), holder), note)
        const waiting = yield* Effect.forkChild(locks.withLock("counted")(note))
        yield* inLine("counted", 1)
        yield* Scope.close(holder, Exit.void)
        yield* Fiber.join(waiting)
        assert.lengthOf(tokens, 23)
        assert.deepStrictEqual(tokens, tokens.toSorted((a, b) => a - b))
        assert.strictEqual(new Set(tokens).size, tokens.length)
      }))

    it.effect("guards a text against writers with an older token", () =>
      Effect.gen(function*() {
        const locks = yield* DistributedLock
        const old = { key: "plan", token: 10 }
        const later = { key: "plan", token: 11 }
        assert.isTrue(Option.isNone(yield* locks.guardedGet("guarded")))
        yield* locks.guardedSet(old, "guarded", "first")
        yield* locks.guardedSet(old, "guarded", "first, again")
        yield* locks.guardedSet(later, "guarded", "second")
        const error = yield* Effect.flip(locks.guardedSet(old, "guarded", "late"))
        assert.deepInclude(error, { _tag: "LockLost", key: "plan", reason: "superseded" })
        assert.deepStrictEqual(yield* locks.guardedGet("guarded"), Option.some("second"))
      }))

    it.effect("keeps a guarded text for as long as was asked for, and its guard for longer", () =>
      Effect.gen(function*() {
        const locks = yield* DistributedLock
        yield* locks.guardedSet({ key: "plan", token: 11 }, "for a while", "text", { ttl: "3 seconds" })
        yield* elapse("2 seconds")
        assert.deepStrictEqual(yield* locks.guardedGet("for a while"), Option.some("text"))
        yield* elapse("1 second")
        assert.isTrue(Option.isNone(yield* locks.guardedGet("for a while")))
        const error = yield* Effect.flip(locks.guardedSet({ key: "plan", token: 10 }, "for a while", "late"))
        assert.strictEqual(error._tag, "LockLost")
      }))

    it.effect("never has two owners at once, however many contend", () =>
      Effect.gen(function*() {
        const locks = yield* DistributedLock
        const history: Array<{ readonly token: number; readonly event: "in" | "out" }> = []
        const turn = locks.withLock("contended")(({ token }) =>
          Effect.gen(function*() {
            history.push({ token, event: "in" })
            yield* Effect.yieldNow
            history.push({ token, event: "out" })
          })
        )
        yield* Effect.forEach(Array.from({ length: 50 }), () => Effect.repeat(turn, { times: 2 }), {
          concurrency: "unbounded"
        })
        assert.lengthOf(history, 300)
        let last = 0
        for (let i = 0; i < history.length; i += 2) {
          assert.deepStrictEqual([history[i]?.event, history[i + 1]?.event], ["in", "out"])
          assert.strictEqual(history[i]?.token, history[i + 1]?.token)
          assert.isAbove(history[i]!.token, last)
          last = history[i]!.token
        }
      }))

    it.effect("knows keys of any characters apart", () =>
      Effect.gen(function*() {
        const locks = yield* DistributedLock
        for (const key of ["a", "a:line", "{a}", "}", "*", "a b", "a\nb", "%7Da", "ä", "💊"]) {
          yield* locks.tryAcquire(key)
        }
        assert.strictEqual((yield* Effect.flip(locks.tryAcquire("}")))._tag, "LockTaken")
      }))

    it.effect("refuses bad input before anything is sent", () =>
      Effect.gen(function*() {
        const locks = yield* DistributedLock
        const inputs = [
          locks.withLock("")(Effect.void),
          locks.withLock("\ud800")(Effect.void),
          locks.withLock("x".repeat(513))(Effect.void),
          locks.inspect(""),
          ...[0, -1, NaN, Infinity, "99 millis", "25 hours"].map((ttl) =>
            locks.withLock("bad", { ttl: ttl as Duration.Input })(Effect.void)
          ),
          ...[-1, NaN, Infinity, "25 hours"].map((wait) =>
            locks.withLock("bad", { wait: wait as Duration.Input })(Effect.void)
          ),
          Effect.scoped(locks.acquire("bad", { ttl: -1 })),
          Effect.scoped(locks.tryAcquire("bad", { ttl: -1 })),
          locks.withLock("bad")((lease) => lease.extend(NaN)),
          locks.guardedGet(""),
          locks.guardedSet({ key: "k", token: 1 }, "", "text"),
          locks.guardedSet({ key: "k", token: 1 }, "bad", "text", { ttl: 0 }),
          locks.guardedSet({ key: "k", token: 1 }, "bad", "\ud800"),
          locks.guardedSet({ key: "k", token: 1 }, "bad", "x".repeat(1024 * 1024 + 1)),
          ...[0, -1, 1.5, NaN, Infinity, 2 ** 53].map((token) => locks.guardedSet({ key: "k", token }, "bad", "text"))
        ]
        for (const input of inputs) {
          const error = yield* Effect.flip<unknown, { readonly _tag: string }, never>(input)
          assert.strictEqual(error._tag, "InvalidInput")
        }
        assert.isTrue(yield* isFree("bad"))
        assert.isTrue(Option.isNone(yield* locks.guardedGet("bad")))
      }))

    badInput(it)
  })
