/** `GET /jobs/:id` and `DELETE /jobs/:id`: how a message stands, and how to stop it, whichever process has it. */
import { Effect, Layer, Schema } from "effect"
import { type JobInfo, JobQueue } from "effect-redis-kit"
import { HttpRouter, HttpServerResponse } from "effect/http"
import type { Status } from "./domain.ts"
import { Notify } from "./notify.ts"
import { Problem, unknownJob } from "./problems.ts"

const jobId = Effect.map(
  HttpRouter.schemaPathParams(Schema.Struct({ id: Schema.String })),
  ({ id }) => id
)

/** The state of a job, in the words of the status changes. */
const statusOf = ({ failure, state }: JobInfo): Status =>
  state === "waiting" || state === "delayed" ? failure === undefined ? "queued" : "retrying" : state

const toIso = (millis: number | undefined) => millis === undefined ? undefined : new Date(millis).toISOString()

/** What may be told of a job: nothing of the patient. */
export const describeJob = (job: JobInfo) => ({
  id: job.id,
  tenant: job.tenant,
  status: statusOf(job),
  attempt: job.attempt,
  priority: job.priority,
  enqueuedAt: toIso(job.enqueuedAt),
  dueAt: toIso(job.dueAt),
  finishedAt: toIso(job.finishedAt),
  failure: job.failure
})

const look = Effect.gen(function*() {
  const queue = yield* JobQueue
  const id = yield* jobId
  const job = yield* queue.get(Notify, id)
  return job === undefined ? yield* unknownJob(id) : HttpServerResponse.jsonUnsafe(describeJob(job))
})

const cancel = Effect.gen(function*() {
  const queue = yield* JobQueue
  const id = yield* jobId
  const reply = yield* queue.cancel(Notify, id, { reason: "cancelled over HTTP" })
  if (reply === "cancelled") return HttpServerResponse.jsonUnsafe({ id, status: "cancelled" })
  // It runs, and its worker has been told.
  if (reply === "requested") return HttpServerResponse.jsonUnsafe({ id, status: "active" }, { status: 202 })
  const job = yield* queue.get(Notify, id)
  return yield* job === undefined
    ? unknownJob(id)
    : new Problem({ status: 409, title: "Too late", detail: `The job has ended: it is ${statusOf(job)}` })
})

/** Routes for single jobs. */
export const jobRoutes = Layer.mergeAll(
  HttpRouter.add("GET", "/jobs/:id", look),
  HttpRouter.add("DELETE", "/jobs/:id", cancel)
)
