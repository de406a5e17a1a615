/** A program that uses every service, on a connection of its own: one of several in the same process. */
import { Context, Deferred, Effect, Layer, type Scope } from "effect"
import { DistributedLock, DistributedLockLive } from "../../src/DistributedLock.ts"
import type { JobHandler } from "../../src/Job.ts"
import { JobQueue, JobQueueLive } from "../../src/JobQueue.ts"
import { JobWorker, type JobWorkerOptions } from "../../src/JobWorker.ts"
import { PubSub, PubSubLive } from "../../src/PubSub.ts"
import { RateLimiter, RateLimiterLive } from "../../src/RateLimiter.ts"
import { Redis } from "../../src/Redis.ts"
import { RedisClient } from "../../src/RedisClient.ts"
import type { RedisSettings } from "../../src/RedisSettings.ts"
import { wait } from "./queuesOnRedis.ts"

export interface Program {
  readonly redis: Redis["Service"]
  readonly client: RedisClient["Service"]
  readonly queue: JobQueue["Service"]
  readonly locks: DistributedLock["Service"]
  readonly limiter: RateLimiter["Service"]
  readonly pubsub: PubSub["Service"]
  /** A worker until the scope closes. What still runs then is given back soon. */
  readonly work: (
    handlers: ReadonlyArray<JobHandler<never>>,
    options?: JobWorkerOptions
  ) => Effect.Effect<void, never, Scope.Scope>
}

/** Holds a lock until it is lost. Yields, once it is held, its token, and the work, which fails with why it was lost. */
export const holdUntilLost = (locks: Program["locks"], name: string) =>
  Effect.gen(function*() {
    const held = yield* Deferred.make<number>()
    const working = yield* Effect.forkChild(Effect.flip(
      locks.withLock(name, { ttl: "300 millis" })((lease) =>
        Effect.andThen(Deferred.succeed(held, lease.token), Effect.never)
      )
    ))
    return { working, token: yield* Deferred.await(held) }
  })

/** Starts it, until the scope closes. */
export const startProgram = (settings: RedisSettings): Effect.Effect<Program, never, Scope.Scope> =>
  Effect.map(
    Layer.build(
      Layer.mergeAll(JobQueueLive, DistributedLockLive, RateLimiterLive, PubSubLive).pipe(
        Layer.provideMerge(Redis.layer(settings)),
        Layer.orDie
      )
    ),
    (context) => ({
      redis: Context.get(context, Redis),
      client: Context.get(context, RedisClient),
      queue: Context.get(context, JobQueue),
      locks: Context.get(context, DistributedLock),
      limiter: Context.get(context, RateLimiter),
      pubsub: Context.get(context, PubSub),
      work: (handlers, options) =>
        Layer.build(JobWorker.layer(handlers, { shutdown: 50, poll: "1 hour", ...options })).pipe(
          Effect.provide(context),
          Effect.orDie,
          Effect.asVoid
        )
    })
  )

/** Waits, in real time, until it is so. */
export const becomes = <A, E, R>(
  what: string,
  look: Effect.Effect<A, E, R>,
  isSo: (value: A) => boolean
): Effect.Effect<A, E, R> =>
  Effect.gen(function*() {
    const deadline = performance.now() + 8000
    for (;;) {
      const value = yield* look
      if (isSo(value)) return value
      if (performance.now() > deadline) throw new Error(`It did not come true: ${what}. Last: ${JSON.stringify(value)}`)
      yield* wait(3)
    }
  })
