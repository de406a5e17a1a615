/** Hands mails over: to an SMTP server, or as files to whoever looks into a folder. */
import { Context, Effect, Layer, Redacted, Schema } from "effect"
import { randomUUID } from "node:crypto"
import { mkdir, rename, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { createTransport } from "nodemailer"
import { ServiceConfig } from "./config.ts"
import type { Mail } from "./mail.ts"

/** The mail was not handed over. Holds no address and no credential. */
export class MailerError extends Schema.TaggedError<MailerError>()("MailerError", {
  detail: Schema.String
}) {}

export class Mailer extends Context.Service<Mailer, {
  /** Where mails go, for people to read. */
  readonly destination: string
  /** Hands a mail over. Interrupted before that, it is not sent. */
  readonly send: (mail: Mail) => Effect.Effect<void, MailerError>
}>()("clinic/Mailer") {
  /** To the server that SMTP_URL names; without it, to files. */
  static readonly layer = Layer.unwrap(
    Effect.map(
      ServiceConfig,
      ({ mailFolder, mailFrom, smtpUrl }) =>
        smtpUrl === undefined ? this.layerFiles(mailFolder, mailFrom) : this.layerSmtp(smtpUrl, mailFrom)
    )
  )

  static readonly layerSmtp = (url: Redacted.Redacted, from: string): Layer.Layer<Mailer> =>
    Layer.effect(
      this,
      Effect.gen(function*() {
        const transport = yield* Effect.acquireRelease(
          Effect.sync(() =>
            createTransport({
              url: Redacted.value(url),
              pool: true,
              // A server that does not answer is a failed attempt, well within the job's timeout.
              connectionTimeout: 5000,
              greetingTimeout: 5000,
              socketTimeout: 15_000
            })
          ),
          (transport) => Effect.sync(() => transport.close())
        )
        return Mailer.of({
          destination: `the SMTP server at ${new URL(Redacted.value(url)).host}`,
          send: (mail) =>
            Effect.tryPromise({
              try: (signal) => transport.sendMail({ ...mail, from, signal }),
              catch: (error) => new MailerError({ detail: codeOf(error) })
            })
        })
      })
    )

  /** Makes the folder, if there is none. Dies when it cannot. */
  static readonly layerFiles = (folder: string, from: string): Layer.Layer<Mailer> =>
    Layer.effect(
      this,
      Effect.gen(function*() {
        yield* Effect.promise(() => mkdir(folder, { recursive: true, mode: 0o700 }))
        const composer = createTransport({ streamTransport: true, buffer: true, newline: "windows" })
        return Mailer.of({
          destination: `files in ${folder}`,
          send: (mail) =>
            Effect.tryPromise({
              try: async (signal) => {
                const { message } = await composer.sendMail({ ...mail, from })
                // Never the same name twice: a mail that is sent twice shows as two files.
                const path = join(folder, `${mail.messageId.slice(1, mail.messageId.indexOf("@"))}.${randomUUID()}.eml`)
                await writeFile(`${path}.part`, message, { mode: 0o600, signal })
                await rename(`${path}.part`, path)
              },
              catch: (error) => new MailerError({ detail: codeOf(error) })
            })
        })
      })
    )
}

/** What kind of failure it was, like `ECONNECTION` or `EENVELOPE 550`; its message may hold an address. */
const codeOf = (error: unknown): string => {
  const { code = "unknown", responseCode } = error as { readonly code?: string; readonly responseCode?: number }
  return responseCode === undefined ? code : `${code} ${responseCode}`
}
