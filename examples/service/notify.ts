/** The job that tells a patient of an appointment, and how it is done. */
import { Effect, Option, Schema } from "effect"
import { DistributedLock, Job } from "effect-redis-kit"
import { findAppointment } from "./appointmentStore.ts"
import type { Appointment } from "./domain.ts"
import { mailAbout } from "./mail.ts"
import { Mailer } from "./mailer.ts"

/** Why a patient could not be told. */
export class NotifyFailed extends Schema.TaggedError<NotifyFailed>()("NotifyFailed", {
  /** `mailer`: it did not take the mail; `appointment`: it is forgotten, or unreadable; `lock`: it was lost on the way. */
  reason: Schema.Literals(["mailer", "appointment", "lock"]),
  detail: Schema.String
}) {
  override get message(): string {
    return `${this.reason}: ${this.detail}`
  }
}

/** Says which appointment, not what is in it: a patient's data stay in one place, and expire there. */
export const Notify = Job.make("notify", {
  payload: Schema.Struct({ appointmentId: Schema.String }),
  success: Schema.Struct({ messageId: Schema.String }),
  error: NotifyFailed,
  timeout: "30 seconds"
})

/** One patient gets one message at a time. */
const lockKey = ({ patientId, tenant }: Appointment) => `patient:${JSON.stringify([tenant, patientId])}`

/** Sends the message, in this patient's turn. */
const tell = Effect.fnUntraced(function*(appointmentId: string) {
  const locks = yield* DistributedLock
  const mailer = yield* Mailer
  const found = yield* findAppointment(appointmentId)
  if (Option.isNone(found)) {
    return yield* new NotifyFailed({ reason: "appointment", detail: "it is forgotten" })
  }
  const mail = mailAbout(found.value)
  let sent = false
  yield* Effect.andThen(mailer.send(mail), Effect.sync(() => sent = true)).pipe(
    locks.withLock(lockKey(found.value), { ttl: "10 seconds", wait: "1 second" }),
    // Lost only after the mail was handed over, the lock has done its work.
    Effect.catchTag("LockLost", (lost) => sent ? Effect.void : Effect.fail(lost))
  )
  return { messageId: mail.messageId }
})

export const notifyHandler = Notify.handler(({ appointmentId }) =>
  Effect.catchTags(tell(appointmentId), {
    // Others wait in the queue, where they hold no worker, and this is no failed attempt.
    LockTimeout: () => Job.postpone("500 millis"),
    RedisError: () => Job.postpone("1 second"),
    LockLost: (error) => Effect.fail(new NotifyFailed({ reason: "lock", detail: error.message })),
    MailerError: (error) => Effect.fail(new NotifyFailed({ reason: "mailer", detail: error.detail })),
    Undecodable: () => Effect.fail(new NotifyFailed({ reason: "appointment", detail: "it cannot be read" })),
    InvalidInput: (error) => Effect.die(error)
  })
)
