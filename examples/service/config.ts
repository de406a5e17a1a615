/** What the environment says, besides where Redis is: that is `RedisConfig`'s. */
import { ByteSize, Config, ConfigProvider, Context, Duration, Effect, Layer, Option, Redacted } from "effect"
import { tmpdir } from "node:os"
import { join } from "node:path"

// Never with the value, which may hold a password.
const malformed = (problem: string) =>
  Effect.fail(new Config.ConfigError(new ConfigProvider.SourceError({ message: problem })))

const isSmtpUrl = (text: string): boolean => /^smtps?:\/\/[^\s]/.test(text) && URL.canParse(text)

const smtpUrl = Config.option(Config.Redacted("SMTP_URL")).pipe(Config.mapEffect((url) => {
  const given = Option.getOrUndefined(Option.filter(url, (text) => Redacted.value(text).trim() !== ""))
  if (given === undefined || isSmtpUrl(Redacted.value(given))) return Effect.succeed(given)
  return malformed("SMTP_URL is malformed: expected smtp://user:password@host:587, or smtps://")
}))

const wholeNumber = (name: string, least: number, most: number, otherwise: number) =>
  Config.Int(name).pipe(
    Config.withDefault(otherwise),
    Config.mapEffect((number) =>
      number >= least && number <= most
        ? Effect.succeed(number)
        : malformed(`${name} is out of range: expected ${least} to ${most}`)
    )
  )

const duration = (name: string, least: Duration.Duration, most: Duration.Duration, otherwise: Duration.Duration) =>
  Config.Duration(name).pipe(
    Config.withDefault(otherwise),
    Config.mapEffect((duration) =>
      Duration.between(duration, { minimum: least, maximum: most })
        ? Effect.succeed(duration)
        : malformed(`${name} is out of range: expected ${Duration.format(least)} to ${Duration.format(most)}`)
    )
  )

const config = Config.all({
  /** What this process does. */
  role: Config.Literals(["both", "api", "worker"], "ROLE").pipe(Config.withDefault("both")),
  host: Config.NonEmptyString("HOST").pipe(Config.withDefault("127.0.0.1")),
  /** 0 takes a free one. */
  port: wholeNumber("PORT", 0, 65_535, 3000),
  /** Requests above it are refused. */
  bodyLimit: Config.ByteSize("BODY_LIMIT").pipe(Config.withDefault(ByteSize.kibibytes(64))),
  /** How many appointments a client may post in a minute. */
  postsPerMinute: wholeNumber("POSTS_PER_MINUTE", 1, 1_000_000, 100),
  /** How long an appointment is kept after its message is due. */
  appointmentTtl: duration("APPOINTMENT_TTL", Duration.minutes(1), Duration.days(3650), Duration.days(7)),
  /** How often a quiet event stream shows that it lives. */
  heartbeat: duration("HEARTBEAT", Duration.millis(10), Duration.hours(1), Duration.seconds(15)),
  /** How many messages a worker process sends at once. */
  concurrency: wholeNumber("CONCURRENCY", 1, 500, 10),
  /** How often a message is tried before it is a dead letter. */
  attempts: wholeNumber("NOTIFY_ATTEMPTS", 1, 100, 5),
  /** How long after the first failure it is tried again; each further time takes twice as long. */
  backoff: duration("NOTIFY_BACKOFF", Duration.zero, Duration.days(1), Duration.seconds(1)),
  /** Where mails are handed over. Without it they become files. */
  smtpUrl,
  /** Where those files are put. */
  mailFolder: Config.NonEmptyString("MAIL_DIR").pipe(Config.withDefault(join(tmpdir(), "clinic-mail"))),
  mailFrom: Config.NonEmptyString("MAIL_FROM").pipe(Config.withDefault("Clinic <appointments@clinic.example>"))
})

/** The service's settings, with defaults that suit a laptop. */
export class ServiceConfig extends Context.Service<ServiceConfig, Config.Success<typeof config>>()(
  "clinic/ServiceConfig"
) {
  static readonly layer = Layer.effect(this, config)
}
