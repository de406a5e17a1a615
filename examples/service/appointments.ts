/** Takes appointments in: each is stored once, and makes one job, however often it is posted. */
import { Duration, Effect, Option, Schema } from "effect"
import { JobQueue } from "effect-redis-kit"
import { createHash, randomUUID } from "node:crypto"
import { changeAppointment, findAppointment, keepAppointment } from "./appointmentStore.ts"
import { ServiceConfig } from "./config.ts"
import { type Appointment, NewAppointment } from "./domain.ts"
import { Notify } from "./notify.ts"
import { Problem } from "./problems.ts"

const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex")

/** The id of the job that a client's request with an Idempotency-Key makes: the same one for each repetition. */
export const idOf = (client: string, idempotencyKey: string): string =>
  sha256(JSON.stringify([client, idempotencyKey])).slice(0, 32)

const encode = Schema.encodeEffect(Schema.fromJsonString(Schema.toCodecJson(NewAppointment)))

/**
 * Stores an appointment and enqueues its message; yields the job's id. Safe to repeat with the same `id`. Fails with a
 * Problem when the id was used for another appointment.
 */
export const takeIn = Effect.fn("takeIn")(function*(posted: NewAppointment, id?: string) {
  const queue = yield* JobQueue
  const { appointmentTtl, attempts, backoff } = yield* ServiceConfig
  const { delay, priority, ...about } = posted

  const appointment: Appointment = {
    ...about,
    id: id ?? randomUUID(),
    fingerprint: sha256(yield* encode(posted)),
    accepted: false
  }
  const isNew = yield* keepAppointment(appointment, Duration.sum(delay ?? Duration.zero, appointmentTtl))
  if (!isNew) {
    const stored = Option.getOrUndefined(yield* findAppointment(appointment.id))
    if (stored !== undefined && stored.fingerprint !== appointment.fingerprint) return yield* otherRequest
    if (stored?.accepted === true) return appointment.id
  }
  yield* queue.enqueue(Notify, { appointmentId: appointment.id }, {
    id: appointment.id,
    tenant: about.tenant,
    delay,
    priority,
    attempts,
    backoff: { kind: "exponential", delay: backoff, jitter: 0.5 }
  })
  if (id !== undefined) yield* changeAppointment({ ...appointment, accepted: true })
  return appointment.id
})

const otherRequest = Effect.fail(
  new Problem({
    status: 422,
    title: "Another request",
    detail: "This Idempotency-Key was used for another appointment"
  })
)
