/** Effect's PersistedQueue on Redis, with its default options. */
import { NodeRedis } from "@effect/platform-node"
import { Effect, Layer, ManagedRuntime, Schema } from "effect"
import { PersistedQueue } from "effect/persistence"
import { Redis } from "ioredis"
import { fromCallers } from "../ours/callers.ts"

const Email = Schema.Struct({
  id: Schema.String,
  user: Schema.String,
  kind: Schema.String,
  at: Schema.Finite,
  n: Schema.Finite,
  pad: Schema.String,
  ok: Schema.Boolean
})

/** @type {import("../support/case.ts").Open<import("../support/jobs.ts").QueueAdapter>} */
export const open = async (port) => {
  const runtime = ManagedRuntime.make(
    PersistedQueue.layer.pipe(
      Layer.provide(PersistedQueue.layerStoreRedis()),
      Layer.provide(NodeRedis.layer({ url: `redis://127.0.0.1:${port}` }))
    )
  )
  const queue = await runtime.runPromise(PersistedQueue.make({ name: "bench", schema: Email }))
  const control = new Redis({ port })
  return {
    enqueue: (callers, next) => runtime.runPromise(fromCallers(callers, next, (email) => queue.offer(email))),
    // It has no call for a batch.
    enqueueBatches: (next) =>
      runtime.runPromise(
        fromCallers(1, next, (emails) =>
          Effect.forEach(emails, (email) =>
            queue.offer(email), { concurrency: "unbounded", discard: true }))
      ),
    work: async (concurrency, onJob) => {
      const lane = Effect.forever(queue.take((email) => Effect.sync(() => onJob(email))))
      for (let i = 0; i < concurrency; i++) runtime.runFork(lane)
    },
    left: async () =>
      await control.llen("effectq:bench") + await control.hlen("effectq:bench:pending") +
      await control.zcard("effectq:bench:delayed"),
    close: async () => {
      await runtime.dispose()
      control.disconnect()
    }
  }
}
