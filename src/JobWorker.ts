/** Does the jobs of queues: claims them, runs their handlers, acknowledges. */
import { Context, type Duration, Effect, Layer, Result, Scope } from "effect"
import { compile } from "./internal/compiledJob.ts"
import { finiteMillis } from "./internal/duration.ts"
import { type JobLoop, type LoopOptions, startLoop } from "./internal/jobLoop.ts"
import { engineOf } from "./internal/queueEngine.ts"
import { openQueue } from "./internal/queueOpening.ts"
import type { Queue } from "./internal/queuePartitions.ts"
import type { JobHandler } from "./Job.ts"
import { JobQueue } from "./JobQueue.ts"
import { InvalidInput } from "./RedisError.ts"

/** How a worker works. */
export interface JobWorkerOptions {
  /** How many jobs of each queue run at once. Default: 10. */
  readonly concurrency?: number | undefined
  /**
   * How many jobs of each queue it claims at most before it has room for them, so that no job waits for the way to Redis.
   * It claims only what it is about to start by the pace of its jobs, and gives back what has not started when they turn
   * out slow. 0 for none. Default: 200.
   */
  readonly prefetch?: number | undefined
  /**
   * How long a job is safe from others without a sign of life from its worker, which gives one three times as often.
   * A job whose worker was killed runs elsewhere this much later. Default: 10 seconds.
   */
  readonly lease?: Duration.Input | undefined
  /** How soon an idle worker looks again although nobody woke it. Default: 2 seconds. */
  readonly poll?: Duration.Input | undefined
  /** How long running jobs may go on when the worker closes; then they are interrupted and given back. Default: 7 seconds. */
  readonly shutdown?: Duration.Input | undefined
}

type RequirementsOf<Handlers extends ReadonlyArray<JobHandler<any>>> = Handlers[number] extends JobHandler<infer R> ? R
  : never

/**
 * A worker in this process.
 *
 * A handler's success completes the job; an error or a defect uses up an attempt; `Job.postpone` does not. When the
 * lease is lost, or the job is cancelled, the handler is interrupted. Each attempt has a scope of its own.
 *
 * @example
 * ```ts
 * import { Effect, Layer, Schema } from "effect"
 * import { Job, JobQueueLive, JobWorker, RedisLive } from "effect-redis-kit"
 *
 * const Resize = Job.make("resize", { payload: Schema.Struct({ image: Schema.String }), timeout: "1 minute" })
 *
 * const worker = JobWorker.layer([
 *   Resize.handler(({ image }, { attempt }) => Effect.log(`resizing ${image}, attempt ${attempt}`))
 * ], { concurrency: 4 })
 *
 * export const main = Layer.launch(worker.pipe(Layer.provide(JobQueueLive), Layer.provide(RedisLive)))
 * ```
 */
export class JobWorker extends Context.Service<JobWorker, {
  /** No further job starts here; other workers go on. */
  readonly pause: Effect.Effect<void>
  readonly resume: Effect.Effect<void>
  /** How many jobs run here. */
  readonly running: Effect.Effect<number>
}>()("effect-redis-kit/JobWorker") {
  /**
   * Works until its scope closes: then it stops to claim, lets jobs end for `shutdown`, and gives back what is left
   * without using an attempt. Fails when an option is out of range or two handlers are for the same job.
   */
  static readonly layer = <const Handlers extends ReadonlyArray<JobHandler<any>>>(
    handlers: Handlers,
    options: JobWorkerOptions = {}
  ): Layer.Layer<JobWorker, InvalidInput, JobQueue | Exclude<RequirementsOf<Handlers>, Scope.Scope>> =>
    Layer.effect(
      this,
      make(handlers as ReadonlyArray<JobHandler<Exclude<RequirementsOf<Handlers>, Scope.Scope>>>, options)
    )
}

const make = <R>(handlers: ReadonlyArray<JobHandler<R>>, options: JobWorkerOptions) =>
  Effect.gen(function*() {
    const loopOptions = yield* Effect.fromResult(checkOptions(options))
    const engine = engineOf(yield* JobQueue)

    const handlersOf = new Map<Queue, Map<string, JobHandler<R>>>()
    for (const handler of handlers) {
      const { job } = handler
      const { problem } = compile(job)
      if (problem !== undefined) return yield* problem
      const queue = yield* openQueue(engine, job)
      const known = handlersOf.get(queue) ?? new Map<string, JobHandler<R>>()
      if (known.has(job.name)) {
        return yield* new InvalidInput({ input: "handlers", problem: `there are two for the job "${job.name}"` })
      }
      handlersOf.set(queue, known.set(job.name, handler))
    }

    const loops: Array<JobLoop> = []
    // All close at once: one after the other they would take as many times as long.
    const together = yield* Scope.fork(yield* Scope.Scope, "parallel")
    for (const [queue, handlers] of handlersOf) {
      const scope = yield* Scope.fork(together)
      loops.push(yield* Scope.provide(startLoop(engine, queue, handlers, loopOptions), scope))
    }
    const setPaused = (paused: boolean) =>
      Effect.sync(() => {
        for (const loop of loops) loop.setPaused(paused)
      })
    return JobWorker.of({
      pause: setPaused(true),
      resume: setPaused(false),
      running: Effect.sync(() => loops.reduce((sum, loop) => sum + loop.running(), 0))
    })
  })

const checkOptions = (options: JobWorkerOptions): Result.Result<LoopOptions, InvalidInput> => {
  const { concurrency = 10, prefetch = 200 } = options
  if (!(Number.isInteger(concurrency) && concurrency >= 1 && concurrency <= 500)) {
    return Result.fail(new InvalidInput({ input: "concurrency", problem: "it is not a whole number from 1 to 500" }))
  }
  if (!(Number.isInteger(prefetch) && prefetch >= 0 && prefetch <= 500)) {
    return Result.fail(new InvalidInput({ input: "prefetch", problem: "it is not a whole number from 0 to 500" }))
  }
  const millis = (input: string, duration: Duration.Input, least: number) => {
    const found = finiteMillis(duration)
    return found !== undefined && found >= least
      ? Result.succeed(Math.ceil(found))
      : Result.fail(new InvalidInput({ input, problem: `it is not a finite duration of at least ${least} ms` }))
  }
  return Result.map(
    Result.all([
      millis("lease", options.lease ?? "10 seconds", 100),
      millis("poll", options.poll ?? "2 seconds", 1),
      millis("shutdown", options.shutdown ?? "7 seconds", 0)
    ]),
    ([leaseMillis, pollMillis, shutdownMillis]) => ({ concurrency, prefetch, leaseMillis, pollMillis, shutdownMillis })
  )
}
