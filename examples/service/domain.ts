/** What the service talks about: appointments, and what becomes of their messages. */
import { Duration, Schema } from "effect"

/** Text on one line: names, ids. Without control characters, it cannot smuggle a header into a mail. */
const line = (most: number) =>
  Schema.String.check(
    Schema.isPattern(new RegExp(`^(?=.*\\S)[^\\p{Cc}\\p{Cs}]{1,${most}}$`, "u"), {
      expected: `1 to ${most} characters on one line`
    })
  )

const Email = Schema.String.check(
  Schema.isPattern(/^(?=.{3,254}$)[\w.!#$%&'*+/=?^`{|}~-]{1,64}@(?:[a-z\d-]{1,63}\.)+[a-z\d-]{2,63}$/i, {
    expected: "an e-mail address"
  })
)

const Text = Schema.String.check(
  Schema.isPattern(/^(?:[^\p{Cc}\p{Cs}]|[\n\t]){1,1000}$/u, { expected: "1 to 1000 characters" })
)

const longestDelay = Duration.days(30)

const Delay = Schema.DurationFromString.check(
  Schema.makeFilter<Duration.Duration>(
    (delay) => Duration.isLessThanOrEqualTo(delay, longestDelay) && !Duration.isNegative(delay),
    {
      expected: `a duration like "10 minutes", up to ${Duration.format(longestDelay)}`
    }
  )
)

/** Whose appointments they are: a clinic. */
export const Tenant = line(64)

/** An appointment that a patient is to be told of. */
const about = {
  tenant: Tenant,
  patientId: line(64),
  patientName: line(200),
  email: Email,
  at: Schema.DateTimeUtcFromString,
  note: Schema.optionalKey(Text)
}

/** What a client posts. */
export const NewAppointment = Schema.Struct({
  ...about,
  /** When the message is to go out, from now. Default: at once. */
  delay: Schema.optionalKey(Delay),
  /** 0 goes out first, 9 last. Default: 5. */
  priority: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 9 })))
})
export type NewAppointment = typeof NewAppointment.Type

/** What is stored of it, under the id of the job that tells the patient. */
export const Appointment = Schema.Struct({
  id: Schema.String,
  ...about,
  /** Of all that was posted: tells a repeated request from another one with the same Idempotency-Key. */
  fingerprint: Schema.String,
  /** Whether its job was enqueued. Known so long, it is not enqueued again, also when the job is long forgotten. */
  accepted: Schema.Boolean
})
export type Appointment = typeof Appointment.Type

/** Where a message is. */
export const Status = Schema.Literals(["queued", "active", "retrying", "completed", "failed", "cancelled"])
export type Status = typeof Status.Type

/** A message has come to another status. */
export const StatusChange = Schema.Struct({
  jobId: Schema.String,
  tenant: Schema.String,
  status: Status,
  /** In milliseconds since 1970, by the server's clock. */
  at: Schema.Finite
})
export type StatusChange = typeof StatusChange.Type
