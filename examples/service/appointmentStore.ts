/** Where appointments are kept: as JSON, for a while. */
import { type Duration, Effect } from "effect"
import { Redis } from "effect-redis-kit"
import { Appointment } from "./domain.ts"

const keyOf = (id: string) => `appointments:${id}`

/** The appointment; none when it was never there, or is forgotten. */
export const findAppointment = (id: string) => Effect.flatMap(Redis, (redis) => redis.getJson(keyOf(id), Appointment))

/** Keeps an appointment for `ttl`, and tells whether it is new: one with this id is left as it is. */
export const keepAppointment = (appointment: Appointment, ttl: Duration.Duration) =>
  Effect.flatMap(
    Redis,
    (redis) => redis.setJson(keyOf(appointment.id), Appointment, appointment, { ttl, onlyIf: "absent" })
  )

/** Changes an appointment that is kept, for as long as it still is. */
export const changeAppointment = (appointment: Appointment) =>
  Effect.flatMap(
    Redis,
    (redis) => redis.setJson(keyOf(appointment.id), Appointment, appointment, { keepTtl: true, onlyIf: "present" })
  )
