/** Reads environment variables, and refuses those that are wrong without telling their values. */
import { Config, ConfigProvider, Effect, Option, Redacted } from "effect"

/** A variable that may be missing. */
export const optional = (name: string): Config.Config<Redacted.Redacted | undefined> =>
  Config.option(Config.Redacted(name)).pipe(
    // An empty variable is what `REDIS_PASSWORD=` in an .env file means: not set.
    Config.map((value) => Option.getOrUndefined(Option.filter(value, (text) => Redacted.value(text).trim() !== "")))
  )

// Never with the value: it may be, or hold, a secret.
export const refused = (message: string) =>
  Effect.fail(new Config.ConfigError(new ConfigProvider.SourceError({ message })))

export const malformed = (name: string, expected: string) => refused(`${name} is malformed: expected ${expected}`)

/** What `parse` makes of a variable; when that is nothing, it is malformed. One that is not ours is taken as not set. */
export const parsed = <A>(
  name: string,
  expected: string,
  parse: (text: string) => A | undefined,
  isNotOurs: (text: string) => boolean = () => false
) =>
  optional(name).pipe(Config.mapEffect((value) => {
    if (value === undefined || isNotOurs(Redacted.value(value))) return Effect.undefined
    const result = parse(Redacted.value(value).trim())
    return result === undefined ? malformed(name, expected) : Effect.succeed(result)
  }))
