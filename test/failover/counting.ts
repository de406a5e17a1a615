/** Callers that count with INCR, which must not be repeated by itself: each on keys of its own, with and without WAIT. */
import { Effect, Result, Schema } from "effect"
import type { ReplicaOptions } from "../../src/internal/replicas.ts"
import type { RedisClient } from "../../src/RedisClient.ts"
import type { RedisError } from "../../src/RedisError.ts"
import * as RedisScript from "../../src/RedisScript.ts"
import type { Load } from "./loadContext.ts"
import { makeSequence, type Sequence } from "./sequence.ts"
import { isRedisError, makeCaller, makeTally, type Tally } from "./tally.ts"

const count = RedisScript.make({
  name: "failover.count",
  keys: ["counter"],
  result: Schema.Finite,
  lua: `return redis.call("INCR", counter)`
})

export interface CountingFindings {
  readonly tally: Tally
  readonly lost: number
  readonly twice: number
}

/** Half of its keys are where jobs and locks are; the others anywhere. */
const keyOf = (client: RedisClient["Service"], kind: string, index: number) =>
  client.key("counter", index % 2 === 0 ? `{${client.namespace}}:${kind}:${index}` : `${kind}:${index}`)

const run = (
  load: Load,
  kind: string,
  callers: number,
  increment: (index: number, key: string, tally: Tally) => Effect.Effect<number, RedisError>,
  pauseMillis: (index: number) => number
) =>
  Effect.gen(function*() {
    const { client } = load
    const tally = makeTally()
    const places = Array.from({ length: callers }, (_, index) => ({
      index,
      key: keyOf(client, kind, index),
      sequence: makeSequence()
    }))
    const work = ({ index, key, sequence }: typeof places[number]) =>
      Effect.gen(function*() {
        const call = makeCaller(tally)
        while (!load.stopped()) {
          note(sequence, yield* call(increment(index, key, tally)))
          const millis = pauseMillis(index)
          if (millis > 0) yield* Effect.sleep(millis)
        }
      })
    yield* Effect.forEach(places, work, { concurrency: "unbounded", discard: true })

    let lost = 0
    let twice = 0
    for (const { key, sequence } of places) {
      sequence.end(
        Number((yield* Effect.orDie(client.use("get", (redis) => redis.get(key), { repeatable: true }))) ?? 0)
      )
      const verdict = sequence.verdict()
      lost += verdict.lost
      twice += verdict.twice
    }
    return { tally, lost, twice } satisfies CountingFindings
  })

const note = (sequence: Sequence, outcome: Result.Result<number, unknown>): void => {
  if (Result.isSuccess(outcome)) sequence.acknowledged(outcome.success)
  else if (isRedisError(outcome.failure) && outcome.failure.outcome === "Unknown") sequence.unknown()
}

/**
 * Without WAIT. Every eighth caller makes no pause, so that something is always on its way. In a Cluster, only calls with
 * a `key` show that they were sent again; every other caller gives one.
 */
export const countPlainly = (load: Load): Effect.Effect<CountingFindings> =>
  run(load, "plain", 32, (index, key, tally) => {
    let sent = 0
    return load.client.use("incr", (redis) => {
      if (sent++ > 0) tally.again++
      return redis.incr(key)
    }, index % 4 < 2 ? { key } : {})
  }, (index) => index % 8 === 0 ? 0 : 4)

/** With WAIT. */
export const countDurably = (load: Load, replicas: Required<ReplicaOptions>): Effect.Effect<CountingFindings> =>
  run(
    load,
    "durable",
    12,
    (_, counter) =>
      load.client.script(count, { counter }, { replicas: { count: replicas.count, within: load.withinMillis } }),
    () => 4
  )
