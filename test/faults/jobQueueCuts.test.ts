/** The connection is cut after any number of bytes, while jobs are enqueued and worked off: each is done, and done once. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import * as Job from "../../src/Job.ts"
import { type Direction, Proxy } from "../support/proxy.ts"
import { eventually } from "../support/queuesOnRedis.ts"
import { sharedRedisUrl, uniqueNamespace } from "../support/sharedRedis.ts"
import { type Side, side } from "../support/twoSides.ts"

const singles = ["a", "b", "c"]
const batch = ["d", "e", "f"]

/** Enqueues some jobs and works them off over a connection that is cut; tells whether so many bytes were ever sent. */
const round = (far: Side, namespace: string, direction: Direction, bytes: number) =>
  Effect.gen(function*() {
    const where = `cut after ${bytes} bytes of ${direction}`
    const Text = Job.make("text", { payload: Schema.String, success: Schema.String, queue: where })
    const proxy = yield* Proxy.start({ port: Number(new URL(sharedRedisUrl()).port) })
    const near = yield* side({ namespace, url: proxy.url })
    const started: Array<string> = []
    // A lease that passes is no help here.
    yield* near.work([
      Text.handler((text, { attempt }) => Effect.sync(() => (started.push(`${text} ${attempt}`), text)))
    ], { concurrency: 2, lease: "1 minute", poll: 100 })
    // Behind what is asked at the start, whose long replies would take hundreds of rounds.
    yield* near.queue.counts(Text)
    yield* proxy.cutAfterBytes(bytes, direction)

    // Safe to repeat, and so repeated: each call is acknowledged in the end.
    const ids: Array<string> = []
    for (const text of singles) ids.push(yield* near.queue.enqueue(Text, text))
    ids.push(...(yield* near.queue.enqueueAll(Text, batch)))
    yield* eventually(
      `all are done, though ${where}`,
      Effect.map(far.queue.counts(Text), ({ finished }) => finished === ids.length)
    )
    const counts = yield* far.queue.counts(Text)
    assert.include(counts, { waiting: 0, delayed: 0, active: 0, failed: 0, finished: 6 }, where)
    const results = yield* Effect.forEach(ids, (id) => far.queue.result(Text, id, { within: "1 second" }))
    assert.deepStrictEqual(results, [...singles, ...batch], where)
    assert.sameMembers(started, results.map((text) => `${text} 1`), where)
    return proxy.severed > 0
  }).pipe(Effect.scoped, Effect.orDie)

/** Rounds at every `step` bytes, until a round takes fewer than that. */
const sweep = (direction: Direction, step: number) =>
  Effect.gen(function*() {
    const namespace = uniqueNamespace()
    const far = yield* side({ namespace })
    const atOnce = 5
    let rounds = 0
    let wasCut = true
    while (wasCut) {
      const positions = Array.from({ length: atOnce }, (_, i) => 1 + step * (rounds + i))
      const cuts = yield* Effect.forEach(positions, (bytes) => round(far, namespace, direction, bytes), {
        concurrency: atOnce
      })
      rounds += atOnce
      wasCut = cuts.some(Boolean)
    }
    // Else the rounds have been too short to tell anything.
    assert.isAbove(rounds, 20)
  }).pipe(Effect.scoped)

describe("A connection that is cut at any byte", () => {
  it.live("of requests loses no job, and runs none twice", () => sweep("requests", 199))

  it.live("of replies loses no job, and runs none twice", () => sweep("replies", 7))
})
