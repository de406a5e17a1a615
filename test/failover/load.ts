/** All that users do at once, and what came of it. */
import { Context, Effect, Fiber, Layer, type Scope } from "effect"
import { DistributedLock } from "../../src/DistributedLock.ts"
import { JobQueue } from "../../src/JobQueue.ts"
import { PubSub } from "../../src/PubSub.ts"
import { RedisClient } from "../../src/RedisClient.ts"
import type { RedisSettings } from "../../src/RedisSettings.ts"
import { countDurably, type CountingFindings, countPlainly } from "./counting.ts"
import { type JobFindings, startJobs } from "./jobs.ts"
import { listen, type ListeningFindings } from "./listening.ts"
import { hot, type Load } from "./loadContext.ts"
import { type LockFindings, lockInTurns } from "./locking.ts"

export interface Findings {
  readonly plain: CountingFindings
  readonly durable: CountingFindings
  readonly jobs: JobFindings
  readonly plainLock: LockFindings
  readonly durableLock: LockFindings
  readonly listening: ListeningFindings
}

/** How long a write waits for its replicas. */
const withinMillis = 500

/** Starts it all; yields how to end it, once all is well again, and learn what came of it. */
export const startLoad = (
  settings: RedisSettings,
  /** All that the master has. */
  replicas: number
): Effect.Effect<Effect.Effect<Findings>, never, Scope.Scope> =>
  Effect.gen(function*() {
    const wait = { count: replicas, within: withinMillis }
    const clientContext = yield* Layer.build(RedisClient.layer({ ...settings, namespace: hot }))
    const build = <A, E>(layer: Layer.Layer<A, E, RedisClient>) =>
      Layer.build(Layer.provide(layer, Layer.succeedContext(clientContext)))
    const plainServices = yield* build(Layer.mergeAll(JobQueue.layer(), DistributedLock.layer(), PubSub.layer))
    const durableServices = yield* build(
      Layer.mergeAll(JobQueue.layer({ replicas: wait }), DistributedLock.layer({ replicas: wait }))
    )

    let stopped = false
    const load: Load = { client: Context.get(clientContext, RedisClient), stopped: () => stopped, withinMillis }
    const jobs = yield* startJobs(
      load,
      Context.get(plainServices, JobQueue),
      Context.get(durableServices, JobQueue)
    )
    const all = yield* Effect.forkScoped(Effect.all({
      plain: countPlainly(load),
      durable: countDurably(load, wait),
      jobs,
      plainLock: lockInTurns(load, Context.get(plainServices, DistributedLock), false),
      durableLock: lockInTurns(load, Context.get(durableServices, DistributedLock), true),
      listening: listen(load, Context.get(plainServices, PubSub))
    }, { concurrency: "unbounded" }))

    return Effect.suspend(() => {
      stopped = true
      return Fiber.join(all)
    })
  }).pipe(Effect.orDie)
