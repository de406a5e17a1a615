// Two limits on one client, decided together in one round trip; waiting for a turn; a verdict to render as headers.
import { Console, Effect, Layer, Logger } from "effect"
import { RateLimit, RateLimiter, ServicesAuto } from "effect-redis-kit"

const limits = [
  RateLimit.tokenBucket({ name: "burst", capacity: 3, refill: 1, per: "1 hour" }),
  RateLimit.fixedWindow({ name: "day", limit: 1000, window: "1 day" })
]

const program = Effect.gen(function*() {
  const limiter = yield* RateLimiter

  for (let call = 1; call <= 4; call++) {
    const { allowed, limit, remaining } = yield* limiter.check(limits, "client-1")
    yield* Console.log(`call ${call}:`, allowed ? `allowed, ${remaining} left` : `denied by ${limit}`)
  }
  // A denied call took nothing of the other limit either.
  const day = yield* limiter.peek(limits[1]!, "client-1")
  yield* Console.log("left of the day:", day.remaining + 1)

  yield* limiter.reset(limits, "client-1")
  yield* Console.log("after a reset:", (yield* limiter.check(limits, "client-1", { cost: 2 })).remaining, "left")

  // GCRA spreads calls evenly; `limit` waits for its turn, and fails when that would take too long.
  const smooth = RateLimit.gcra({ name: "smooth", limit: 50, period: "1 second", burst: 1 })
  const calls = Array.from(
    { length: 3 },
    (_, i) => Effect.succeed(i + 1).pipe(limiter.limit(smooth, "client-2", { wait: "1 second" }))
  )
  yield* Console.log("in turn:", (yield* Effect.all(calls, { concurrency: "unbounded" })).join(", "))
  const late = Effect.void.pipe(limiter.limit(limits, "client-1", { cost: 3 }))
  yield* Effect.catchTag(late, "RateLimited", ({ limit }) => Console.log("too much for:", limit))
})

// The log goes to stderr, so that stdout is the same on every engine.
await Effect.runPromise(program.pipe(
  Effect.provide(ServicesAuto.pipe(Layer.provideMerge(Layer.succeed(Logger.LogToStderr, true))))
))
