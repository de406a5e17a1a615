/** `/queue`: what an operator wants to see and do. */
import { Duration, Effect, Layer, Schema } from "effect"
import { JobQueue } from "effect-redis-kit"
import { HttpRouter, HttpServerRequest, HttpServerResponse } from "effect/http"
import { describeJob } from "./jobRoutes.ts"
import { Notify } from "./notify.ts"
import { Problem } from "./problems.ts"

const IntFromString = (least: number, most: number) =>
  Schema.optionalKey(
    Schema.FiniteFromString.check(Schema.isInt(), Schema.isBetween({ minimum: least, maximum: most }))
  )

const Page = Schema.Struct({ cursor: Schema.optionalKey(Schema.String), limit: IntFromString(1, 500) })

const counts = Effect.gen(function*() {
  const queue = yield* JobQueue
  const { oldestWaiting, ...counts } = yield* queue.counts(Notify)
  return HttpServerResponse.jsonUnsafe({
    ...counts,
    oldestWaitingMillis: oldestWaiting === undefined ? undefined : Duration.toMillis(oldestWaiting)
  })
})

const pause = Effect.gen(function*() {
  const queue = yield* JobQueue
  yield* queue.pause(Notify)
  return HttpServerResponse.jsonUnsafe({ paused: true })
})

const resume = Effect.gen(function*() {
  const queue = yield* JobQueue
  yield* queue.resume(Notify)
  return HttpServerResponse.jsonUnsafe({ paused: false })
})

const deadLetters = Effect.gen(function*() {
  const queue = yield* JobQueue
  const page = yield* HttpServerRequest.schemaSearchParams(Page, { errors: "all" })
  const { jobs, next } = yield* queue.list(Notify, { state: "failed", ...page })
  return HttpServerResponse.jsonUnsafe({ jobs: jobs.map(describeJob), next })
})

const replayAll = Effect.gen(function*() {
  const queue = yield* JobQueue
  const { limit } = yield* HttpServerRequest.schemaSearchParams(
    Schema.Struct({ limit: IntFromString(1, 1_000_000) }),
    { errors: "all" }
  )
  return HttpServerResponse.jsonUnsafe({ replayed: yield* queue.replay(Notify, { limit }) })
})

const replayOne = Effect.gen(function*() {
  const queue = yield* JobQueue
  const { id } = yield* HttpRouter.schemaPathParams(Schema.Struct({ id: Schema.String }))
  if (yield* queue.retry(Notify, id)) return HttpServerResponse.jsonUnsafe({ replayed: 1 })
  return yield* new Problem({ status: 404, title: "No dead letter", detail: `There is no dead letter "${id}"` })
})

/** Routes for the queue as a whole. */
export const queueRoutes = Layer.mergeAll(
  HttpRouter.add("GET", "/queue", counts),
  HttpRouter.add("POST", "/queue/pause", pause),
  HttpRouter.add("POST", "/queue/resume", resume),
  HttpRouter.add("GET", "/queue/dead-letters", deadLetters),
  HttpRouter.add("POST", "/queue/dead-letters/replay", replayAll),
  HttpRouter.add("POST", "/queue/dead-letters/:id/replay", replayOne)
)
