// One at a time, whatever happens: a lock with a lease, a fencing token, and a write that refuses a late holder.
import { Console, Effect, Layer, Logger, Option } from "effect"
import { DistributedLock, ServicesAuto } from "effect-redis-kit"

const program = Effect.gen(function*() {
  const locks = yield* DistributedLock
  let together = 0
  let most = 0

  const visit = Effect.gen(function*() {
    most = Math.max(most, ++together)
    yield* Effect.sleep("5 millis")
    together--
  })
  // Ten want in, none polls: each release wakes the next.
  yield* Effect.all(
    Array.from({ length: 10 }, () => visit.pipe(locks.withLock("patient:1", { ttl: "10 seconds", wait: "5 seconds" }))),
    { concurrency: "unbounded" }
  )
  yield* Console.log("at once:", most)

  // Busy, and no wish to wait.
  yield* Effect.scoped(Effect.gen(function*() {
    yield* locks.acquire("report", { ttl: "10 seconds" })
    const error = yield* Effect.flip(Effect.scoped(locks.tryAcquire("report")))
    yield* Console.log("second owner:", error._tag)
  }))

  // A holder that was paused past its lease writes last, and in vain.
  const late = yield* Effect.scoped(locks.acquire("plan"))
  yield* locks.withLock("plan")((lease) => locks.guardedSet(lease, "plan", "new plan"))
  const refused = yield* Effect.flip(locks.guardedSet(late, "plan", "old plan"))
  yield* Console.log("late writer:", refused._tag)
  yield* Console.log("plan:", Option.getOrElse(yield* locks.guardedGet("plan"), () => "none"))
})

// The log goes to stderr, so that stdout is the same on every engine.
await Effect.runPromise(program.pipe(
  Effect.provide(ServicesAuto.pipe(Layer.provideMerge(Layer.succeed(Logger.LogToStderr, true))))
))
