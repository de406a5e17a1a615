/** The services in memory, each used in the way that leaves most behind while it is open. */
import { Context, Effect, Layer, Schema, Stream } from "effect"
import * as Channel from "../../src/Channel.ts"
import { DistributedLock } from "../../src/DistributedLock.ts"
import { Health } from "../../src/Health.ts"
import * as Job from "../../src/Job.ts"
import { JobQueue } from "../../src/JobQueue.ts"
import { JobWorker } from "../../src/JobWorker.ts"
import { PubSub } from "../../src/PubSub.ts"
import * as RateLimit from "../../src/RateLimit.ts"
import { RateLimiter } from "../../src/RateLimiter.ts"
import { Redis } from "../../src/Redis.ts"
import { ServicesMemory } from "../../src/Services.ts"
import { buildAnew } from "./connections.ts"
import type { Thing } from "./cycles.ts"

const News = Channel.make("news", Schema.String)
const Work = Job.make("work", { payload: Schema.String })
const limit = RateLimit.fixedWindow({ name: "hour", limit: 1, window: "1 hour" })

const used = (services: typeof ServicesMemory) =>
  Effect.gen(function*() {
    const context = yield* buildAnew(services)
    const queue = Context.get(context, JobQueue)
    yield* Context.get(context, Redis).set("a", "text", { ttl: "1 hour" })
    const pubsub = Context.get(context, PubSub)
    yield* Effect.forkScoped(Stream.runDrain(yield* pubsub.subscribeScoped(News)))
    yield* pubsub.publish(News, "a text")
    yield* Effect.forkScoped(Stream.runDrain(queue.events(Work)), { startImmediately: true })
    const id = yield* queue.enqueue(Work, "a text")
    yield* queue.take(Work, 1)
    yield* Effect.forkScoped(queue.result(Work, id, { within: "1 hour" }), { startImmediately: true })
    yield* buildAnew(Layer.provide(
      JobWorker.layer([Work.handler(() => Effect.never)], { shutdown: 0 }),
      Layer.succeed(JobQueue, queue)
    ))
    const locks = Context.get(context, DistributedLock)
    yield* locks.acquire("lock")
    yield* Effect.forkScoped(locks.acquire("lock"), { startImmediately: true })
    const limiter = Context.get(context, RateLimiter)
    yield* limiter.check(limit, "anyone")
    yield* Effect.forkScoped(Effect.void.pipe(limiter.limit(limit, "anyone", { wait: "2 hours" })))
    yield* Effect.forkScoped(Stream.runDrain(Context.get(context, Health).watch("1 hour")))
    yield* Effect.yieldNow
  })

export const memory: ReadonlyArray<Thing> = [
  { name: "ServicesMemory, all of them in use", open: Effect.succeed({ cycle: () => used(ServicesMemory) }) }
]
