/** What a patient reads. */
import { DateTime } from "effect"
import type { Appointment } from "./domain.ts"

/** A mail, before it has headers. */
export interface Mail {
  /** The same for each attempt, so that a mail that comes twice can be told from two mails. */
  readonly messageId: string
  readonly to: { readonly name: string; readonly address: string }
  readonly subject: string
  readonly text: string
}

/** Renders the message about an appointment. */
export const mailAbout = ({ at, email, id, note, patientName }: Appointment): Mail => {
  const when = `${DateTime.formatUtc(at, { locale: "en-GB", dateStyle: "full", timeStyle: "short" })} (UTC)`
  return {
    messageId: `<${id}@clinic.example>`,
    to: { name: patientName, address: email },
    subject: `Your appointment on ${when}`,
    text: [
      `Dear ${patientName},`,
      `we expect you on ${when}.`,
      ...(note === undefined ? [] : [note]),
      "If you cannot come, please let us know.",
      "Your clinic"
    ].join("\n\n") + "\n"
  }
}
