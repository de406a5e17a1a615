/** Queues on the shared server, under names and a time of a test's own. */
import { assert } from "@effect/vitest"
import { type Duration, Effect, Layer } from "effect"
import { setTimeout as sleep } from "node:timers/promises"
import { ServerClock } from "../../src/internal/serverClock.ts"
import { JobQueue, type JobQueueOptions } from "../../src/JobQueue.ts"
import { RedisClient } from "../../src/RedisClient.ts"
import { sharedRedisUrl, uniqueNamespace } from "./sharedRedis.ts"

/** Where queues are, and what time it is there. */
export interface QueuesOnRedis extends JobQueueOptions {
  readonly url?: string
  readonly namespace?: string
  readonly clock?: { offsetMillis: number }
  /** How soon a silent connection is given up. Default: the client's. */
  readonly commandTimeout?: Duration.Input
}

/** JobQueue with its connection. */
export const queuesOnRedis = ({ clock, commandTimeout, namespace, url, ...options }: QueuesOnRedis = {}) =>
  Layer.suspend(() =>
    Layer.provideMerge(
      JobQueue.layer(options),
      RedisClient.layer({ url: url ?? sharedRedisUrl(), namespace: namespace ?? uniqueNamespace(), commandTimeout })
    ).pipe(Layer.provide(Layer.succeed(ServerClock, clock ?? { offsetMillis: 0 })))
  )

/** Real time passes. */
export const wait = (millis: number) => Effect.promise(() => sleep(millis))

/** Asks again and again until it is so. */
export const eventually = <E, R>(what: string, check: Effect.Effect<boolean, E, R>): Effect.Effect<void, E, R> =>
  Effect.gen(function*() {
    const deadline = performance.now() + 8000
    while (!(yield* check)) {
      if (performance.now() > deadline) assert.fail(`It did not come true: ${what}`)
      yield* wait(2)
    }
  })
