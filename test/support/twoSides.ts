/** One queue seen from two sides: near, through a proxy that does harm, and far, where all is well. */
import { Context, Effect, Layer, type Result, Schema, type Scope, Stream } from "effect"
import * as Job from "../../src/Job.ts"
import type { JobEvent, QueueRef } from "../../src/JobInfo.ts"
import { JobQueue } from "../../src/JobQueue.ts"
import { JobWorker, type JobWorkerOptions } from "../../src/JobWorker.ts"
import { Proxy } from "./proxy.ts"
import { eventually, type QueuesOnRedis, queuesOnRedis } from "./queuesOnRedis.ts"
import { sharedRedisUrl, uniqueNamespace } from "./sharedRedis.ts"

/** A client of its own. */
export interface Side {
  readonly queue: JobQueue["Service"]
  /** A worker until the scope closes. What still runs then is given back soon. */
  readonly work: (
    handlers: ReadonlyArray<Job.JobHandler<never>>,
    options?: JobWorkerOptions
  ) => Effect.Effect<JobWorker["Service"], never, Scope.Scope>
}

export interface TwoSides {
  readonly proxy: Proxy
  readonly near: Side
  readonly far: Side
  /** Moves the server's time, for both. */
  readonly clock: { offsetMillis: number }
  /**
   * Runs `operation`, whose first script on the near side runs on the server, while its reply is lost and the connection
   * reset. Fails when there was no such reply.
   */
  readonly unheard: <A, E, R>(operation: Effect.Effect<A, E, R>) => Effect.Effect<Result.Result<A, E>, never, R>
}

/** One client. */
export const side = (where: QueuesOnRedis): Effect.Effect<Side, never, Scope.Scope> =>
  Effect.map(Layer.build(Layer.orDie(queuesOnRedis(where))), (context) => ({
    queue: Context.get(context, JobQueue),
    work: (handlers, options) =>
      Effect.map(
        Effect.provide(
          Layer.build(Layer.orDie(JobWorker.layer(handlers, { shutdown: 50, poll: "1 hour", ...options }))),
          context
        ),
        (built) => Context.get(built, JobWorker)
      )
  }))

/** Both sides. Workers rest for ever unless they are woken up. */
export const twoSides = (options: QueuesOnRedis = {}): Effect.Effect<TwoSides, never, Scope.Scope> =>
  Effect.gen(function*() {
    const where = { url: sharedRedisUrl(), namespace: uniqueNamespace(), clock: { offsetMillis: 0 }, ...options }
    const proxy = yield* Proxy.start({ port: Number(new URL(where.url).port) })
    const far = yield* side(where)
    const near = yield* side({ ...where, url: proxy.url })
    yield* useEveryScript(far.queue)
    return {
      proxy,
      near,
      far,
      clock: where.clock,
      unheard: (operation) =>
        Effect.gen(function*() {
          const before = proxy.severed
          yield* proxy.dropNextReply("evalsha")
          const result = yield* Effect.result(operation)
          yield* eventually("a reply was lost", Effect.sync(() => proxy.severed > before))
          return result
        })
    }
  })

/** What happens to a queue's jobs from now on. */
export const record = (
  queue: JobQueue["Service"],
  of: QueueRef
): Effect.Effect<ReadonlyArray<JobEvent>, never, Scope.Scope> =>
  Effect.gen(function*() {
    const seen: Array<JobEvent> = []
    const events = yield* Effect.orDie(queue.eventsScoped(of))
    yield* Effect.forkScoped(Stream.runForEach(events, (event) => Effect.sync(() => seen.push(event))))
    return seen
  })

// A script that the server does not know yet is refused: the reply that is lost would be that refusal.
const useEveryScript = (queue: JobQueue["Service"]) =>
  Effect.gen(function*() {
    const Warm = Job.make("warm", { payload: Schema.Void, error: Schema.Void, attempts: 1 })
    const ids = yield* queue.enqueueAll(Warm, Array.from({ length: 4 }))
    const [completed, failed, released] = yield* queue.take(Warm, 3)
    yield* completed!.complete()
    yield* failed!.fail()
    yield* released!.release({ delay: "1 hour" })
    yield* queue.retry(Warm, failed!.id)
    yield* queue.promote(Warm, released!.id)
    yield* queue.cancel(Warm, ids[3]!)
    yield* queue.remove(Warm, failed!.id)
    yield* queue.pause(Warm)
    yield* queue.resume(Warm)
    yield* queue.clear(Warm)
  }).pipe(Effect.scoped, Effect.orDie)
