/** `POST /appointments`: limited per client, and one job for each Idempotency-Key. */
import { Duration, Effect, Option, Schema } from "effect"
import { RateLimit, RateLimiter, type Verdict } from "effect-redis-kit"
import { HttpRouter, HttpServerRequest, HttpServerResponse } from "effect/http"
import { idOf, takeIn } from "./appointments.ts"
import { ServiceConfig } from "./config.ts"
import { NewAppointment } from "./domain.ts"
import { answerProblems, Problem } from "./problems.ts"

const token = (most: number) =>
  Schema.optionalKey(
    Schema.String.check(
      Schema.isPattern(new RegExp(`^[^\\p{Cc}\\p{Cs}]{1,${most}}$`, "u"), { expected: `1 to ${most} characters` })
    )
  )

const Caller = Schema.Struct({ "x-client-id": token(128), "idempotency-key": token(256) })

/** Who posts, and under which id if it is to be one job. */
const caller = Effect.gen(function*() {
  const headers = yield* HttpServerRequest.schemaHeaders(Caller, { errors: "all" })
  const { remoteAddress } = yield* HttpServerRequest.HttpServerRequest
  const client = headers["x-client-id"]
  // Nobody gets at the quota of an address by calling oneself so.
  const name = client === undefined ? `address ${Option.getOrElse(remoteAddress, () => "unknown")}` : `client ${client}`
  const key = headers["idempotency-key"]
  return { name, id: key === undefined ? undefined : idOf(name, key) }
})

const post = Effect.fnUntraced(function*(id: string | undefined) {
  const appointment = yield* HttpServerRequest.schemaBodyJson(NewAppointment, { errors: "all" })
  const jobId = yield* takeIn(appointment, id)
  return HttpServerResponse.jsonUnsafe(
    { id: jobId, tenant: appointment.tenant, status: "queued" },
    { status: 202, headers: { location: `/jobs/${jobId}` } }
  )
})

const seconds = (duration: Duration.Duration): string => String(Math.ceil(Duration.toSeconds(duration)))

const tooMany = ({ capacity, retryAfter }: Verdict) =>
  new Problem({
    status: 429,
    title: "Too many requests",
    detail: `At most ${capacity} appointments a minute`,
    headers: { "retry-after": seconds(retryAfter) }
  })

/** Routes for appointments. */
export const appointmentRoutes = HttpRouter.add(
  "POST",
  "/appointments",
  Effect.gen(function*() {
    const limiter = yield* RateLimiter
    const { postsPerMinute } = yield* ServiceConfig
    const { id, name } = yield* caller
    const perMinute = RateLimit.fixedWindow({ name: "appointments", limit: postsPerMinute, window: "1 minute" })
    const verdict = yield* limiter.check(perMinute, name)
    const response = yield* answerProblems(verdict.allowed ? post(id) : Effect.fail(tooMany(verdict)))
    return HttpServerResponse.setHeaders(response, {
      "ratelimit-limit": String(verdict.capacity),
      "ratelimit-remaining": String(verdict.remaining),
      "ratelimit-reset": seconds(verdict.resetAfter)
    })
  })
)
