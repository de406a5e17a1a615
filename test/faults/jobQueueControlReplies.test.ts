/** The reply to what is done to a job or a queue is lost: it is done once, and whoever asked for it is told the truth. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import * as Job from "../../src/Job.ts"
import type { JobInfo } from "../../src/JobInfo.ts"
import type { JobQueue } from "../../src/JobQueue.ts"
import type { InvalidInput, RedisError } from "../../src/RedisError.ts"
import { eventually } from "../support/queuesOnRedis.ts"
import { record, twoSides } from "../support/twoSides.ts"

const Text = Job.make("text", { payload: Schema.String, error: Schema.String, attempts: 1 })

type Queue = JobQueue["Service"]

interface Operation {
  readonly does: string
  /** Enqueues job "x", and brings it into the state that the operation is for. */
  readonly prepare: (queue: Queue) => Effect.Effect<unknown, unknown>
  readonly run: (queue: Queue) => Effect.Effect<unknown, InvalidInput | RedisError>
  /** What it answers when its reply arrives. */
  readonly answer: unknown
  /** The state of the job afterwards, and what was told of it. */
  readonly state: JobInfo["state"] | undefined
  readonly told: ReadonlyArray<string>
}

const enqueue = (queue: Queue) => queue.enqueue(Text, "x", { id: "x" })

const operations: ReadonlyArray<Operation> = [
  {
    does: "cancels a waiting job",
    prepare: enqueue,
    run: (queue) => queue.cancel(Text, "x"),
    answer: "cancelled",
    state: "cancelled",
    told: ["queued", "cancelled"]
  },
  {
    does: "removes a job",
    prepare: enqueue,
    run: (queue) => queue.remove(Text, "x"),
    answer: true,
    state: undefined,
    told: ["queued", "removed"]
  },
  {
    does: "promotes a delayed job",
    prepare: (queue) => queue.enqueue(Text, "x", { id: "x", delay: "1 hour" }),
    run: (queue) => queue.promote(Text, "x"),
    answer: true,
    state: "waiting",
    // Once when it was enqueued, once when it was promoted.
    told: ["queued", "queued"]
  },
  {
    does: "lets a dead letter run again",
    prepare: (queue) =>
      Effect.andThen(
        enqueue(queue),
        Effect.scoped(Effect.flatMap(queue.take(Text, 1), ([job]) => job!.fail("bad")))
      ),
    run: (queue) => queue.retry(Text, "x"),
    answer: true,
    state: "waiting",
    told: ["queued", "active", "failed", "queued"]
  },
  {
    does: "pauses a queue",
    prepare: enqueue,
    run: (queue) => queue.pause(Text),
    answer: undefined,
    state: "waiting",
    told: ["queued"]
  },
  {
    does: "resumes a queue",
    prepare: (queue) => Effect.andThen(queue.pause(Text), enqueue(queue)),
    run: (queue) => queue.resume(Text),
    answer: undefined,
    state: "waiting",
    told: ["queued"]
  }
]

describe("An operation whose reply is lost", () => {
  for (const { answer, does, prepare, run, state, told } of operations) {
    it.live(`${does} once, and says so, or that it may have`, () =>
      Effect.gen(function*() {
        const { far, near, unheard } = yield* twoSides()
        const events = yield* record(far.queue, Text)
        yield* prepare(far.queue)
        const result = yield* unheard(run(near.queue))
        const info = yield* far.queue.get(Text, "x")
        assert.strictEqual(info?.state, state)
        // The next thing that is told comes after all of it.
        yield* far.queue.enqueue(Text, "last", { id: "last" })
        yield* eventually("all is told", Effect.sync(() => events.some(({ id }) => id === "last")))
        assert.deepStrictEqual(events.filter(({ id }) => id === "x").map(({ kind }) => kind), told)
        if (result._tag === "Success") assert.deepStrictEqual(result.success, answer)
        else assert.include(result.failure, { _tag: "RedisError", outcome: "Unknown" })
      }).pipe(Effect.scoped))
  }

  it.live("cancels a running job once, and says so, or that it may have", () =>
    Effect.gen(function*() {
      const { far, near, unheard } = yield* twoSides()
      let running = 0
      let interrupted = 0
      yield* far.work([
        Text.handler(() =>
          Effect.onInterrupt(
            Effect.andThen(Effect.sync(() => running++), Effect.never),
            () => Effect.sync(() => interrupted++)
          )
        )
      ])
      yield* enqueue(far.queue)
      yield* eventually("it runs", Effect.sync(() => running === 1))
      const result = yield* unheard(near.queue.cancel(Text, "x", { reason: "no more" }))
      const error = yield* Effect.flip(far.queue.result(Text, "x", { within: "5 seconds" }))
      assert.include(error, { _tag: "JobCancelled", reason: "no more" })
      assert.deepStrictEqual([running, interrupted], [1, 1])
      if (result._tag === "Success") assert.strictEqual(result.success, "requested")
      else assert.include(result.failure, { _tag: "RedisError", outcome: "Unknown" })
    }).pipe(Effect.scoped))
})
