// Services with other than the default options: jobs and locks that count only when so many replicas have them: REPLICAS=1.
import { Config, Console, Effect, Layer, Logger, Schema } from "effect"
import { DistributedLock, Job, JobQueue, RateLimiter, Redis, RedisConfig, RedisLive } from "effect-redis-kit"

const Book = Job.make("book", { payload: Schema.Struct({ seat: Schema.String }) })

/** What `ServicesLive` puts together, with options. With too few replicas, such an enqueueing fails as `not-replicated`. */
const services = (count: number) => {
  const replicas = count === 0 ? undefined : { count, within: "2 seconds" } as const
  return Layer.mergeAll(
    JobQueue.layer({ replicas, retention: { age: "10 minutes" } }),
    DistributedLock.layer({ replicas, ttl: "10 seconds" }),
    RateLimiter.layer({ onUnavailable: "allow" })
  ).pipe(Layer.provideMerge(RedisLive))
}

const inMemory = Layer.mergeAll(
  JobQueue.layerMemoryWith({ retention: { age: "10 minutes" } }),
  DistributedLock.layerMemory,
  RateLimiter.layerMemory,
  Redis.layerMemory
)

const program = Effect.gen(function*() {
  const locks = yield* DistributedLock
  const queue = yield* JobQueue
  yield* locks.withLock("seat 12A")(queue.enqueue(Book, { seat: "12A" }, { id: "12A" }))
  yield* Console.log("booked:", (yield* queue.counts(Book)).waiting)
  yield* queue.clear(Book)
})

const onWhatIsThere = Layer.unwrap(Effect.gen(function*() {
  const count = yield* Config.Int("REPLICAS").pipe(Config.withDefault(0))
  return (yield* RedisConfig.isConfigured) ? services(count) : inMemory
}))

// The log goes to stderr, so that stdout is the same on every engine.
await Effect.runPromise(
  program.pipe(Effect.provide(onWhatIsThere), Effect.provideService(Logger.LogToStderr, true))
)
