/** Connection settings, and how they are read from the environment. */
import { Config, ConfigProvider, type Duration, Effect, Option, Redacted, Result } from "effect"
import { readFileSync } from "node:fs"

/** How to reach a server over TLS. Certificates are verified unless `verify` is false. */
export interface TlsSettings {
  /** Certificates to trust instead of the system's, in PEM. */
  readonly ca?: string | undefined
  /** The client's certificate, in PEM. */
  readonly cert?: string | undefined
  /** The client's private key, in PEM. */
  readonly key?: Redacted.Redacted | undefined
  /** The name that the server's certificate has to bear, when it is not the host's. */
  readonly servername?: string | undefined
  readonly verify?: boolean | undefined
}

/** What a connection needs to know. Everything but the server has a default. */
export interface RedisSettings {
  /** `redis://`, `rediss://` (TLS) or `unix://`, with credentials and database. Other fields override its parts. */
  readonly url?: Redacted.Redacted | string | undefined
  /** Default: `127.0.0.1`. */
  readonly host?: string | undefined
  /** Default: 6379. */
  readonly port?: number | undefined
  /** A unix socket, instead of host and port. */
  readonly path?: string | undefined
  readonly username?: string | undefined
  readonly password?: Redacted.Redacted | undefined
  /** The database's number. Default: 0. */
  readonly db?: number | undefined
  readonly tls?: boolean | TlsSettings | undefined
  /** What all keys and channels begin with. Default: `app`. */
  readonly namespace?: string | undefined
  /** How long the layer waits for the server, and each reconnection for its socket. Default: 5 seconds. */
  readonly connectTimeout?: Duration.Input | undefined
  /** The deadline of a command, waiting for a connection included. Default: 5 seconds. */
  readonly commandTimeout?: Duration.Input | undefined
  /** `eager` fails when the server cannot be reached; `background` starts without it. Default: `eager`. */
  readonly connect?: "eager" | "background" | undefined
  /** How many connections `reserve` may hold at once. Default: 16. */
  readonly maxReserved?: number | undefined
}

const optional = (name: string): Config.Config<Redacted.Redacted | undefined> =>
  Config.option(Config.Redacted(name)).pipe(
    // An empty variable is what `REDIS_PASSWORD=` in an .env file means: not set.
    Config.map((value) => Option.getOrUndefined(Option.filter(value, (text) => Redacted.value(text).trim() !== "")))
  )

// Never with the value: it may be, or hold, a secret.
const malformed = (name: string, expected: string) =>
  Effect.fail(
    new Config.ConfigError(new ConfigProvider.SourceError({ message: `${name} is malformed: expected ${expected}` }))
  )

const parsed = <A>(name: string, expected: string, parse: (text: string) => A | undefined) =>
  optional(name).pipe(Config.mapEffect((value) => {
    if (value === undefined) return Effect.undefined
    const result = parse(Redacted.value(value).trim())
    return result === undefined ? malformed(name, expected) : Effect.succeed(result)
  }))

const wholeNumber = (from: number, to: number) => (text: string): number | undefined => {
  const number = /^\d{1,9}$/.test(text) ? Number(text) : undefined
  return number !== undefined && number >= from && number <= to ? number : undefined
}

const flag = (text: string): boolean | undefined =>
  ({ true: true, yes: true, on: true, 1: true, false: false, no: false, off: false, 0: false } as Record<
    string,
    boolean
  >)[text.toLowerCase()]

const millis = (text: string): number | undefined => {
  const [, amount, unit = "ms"] = /^(\d{1,9}) ?(ms|millis|s|seconds?|m|minutes?)?$/.exec(text) ?? []
  if (amount === undefined || Number(amount) === 0) return undefined
  const factor = unit.startsWith("ms") || unit === "millis" ? 1 : unit.startsWith("s") ? 1000 : 60_000
  const total = Number(amount) * factor
  // Longer than any timer can wait.
  return total < 2 ** 31 ? total : undefined
}

const pem = (name: string) =>
  parsed(name, "a PEM text, or the path of a file that holds one", (text) => {
    if (text.includes("-----BEGIN")) return text.replaceAll("\\n", "\n")
    try {
      const file = readFileSync(text, "utf8")
      return file.includes("-----BEGIN") ? file : undefined
    } catch {
      return undefined
    }
  })

const urlForms = "redis://, rediss:// or unix://, like rediss://user:password@host:6379/0, with reserved characters " +
  "of user and password percent-encoded"

const url = optional("REDIS_URL").pipe(Config.mapEffect((value) => {
  if (value === undefined) return Effect.undefined
  const settings = fromUrl(value)
  return Result.isSuccess(settings)
    ? Effect.succeed(settings.success)
    : malformed("REDIS_URL", settings.failure)
}))

/**
 * Reads connection settings from `REDIS_URL`, or from `REDIS_HOST`, `REDIS_PORT`, `REDIS_USERNAME`, `REDIS_PASSWORD`,
 * `REDIS_DB`, `REDIS_TLS`; and from `REDIS_TLS_CA`, `REDIS_TLS_CERT`, `REDIS_TLS_KEY`, `REDIS_TLS_SERVERNAME`,
 * `REDIS_TLS_VERIFY`, `REDIS_CONNECT_TIMEOUT`, `REDIS_COMMAND_TIMEOUT` and `SERVICE_NAME` (the namespace).
 *
 * What the URL says holds; the other variables add what it leaves out. TLS is on when either the scheme or `REDIS_TLS`
 * asks for it. Fails with a `ConfigError` that names the malformed variable, never its value.
 */
export const config: Config.Config<RedisSettings> = Config.all({
  url,
  host: parsed("REDIS_HOST", "a host name or address", (text) => (/[\s/@]/.test(text) ? undefined : text)),
  port: parsed("REDIS_PORT", "a port from 1 to 65535", wholeNumber(1, 65_535)),
  username: optional("REDIS_USERNAME"),
  password: optional("REDIS_PASSWORD"),
  db: parsed("REDIS_DB", "the number of a database, from 0", wholeNumber(0, 1_000_000)),
  tls: parsed("REDIS_TLS", "true or false", flag),
  ca: pem("REDIS_TLS_CA"),
  cert: pem("REDIS_TLS_CERT"),
  key: pem("REDIS_TLS_KEY"),
  servername: parsed("REDIS_TLS_SERVERNAME", "a host name", (text) => (/[\s/@]/.test(text) ? undefined : text)),
  verify: parsed("REDIS_TLS_VERIFY", "true or false", flag),
  connectTimeout: parsed("REDIS_CONNECT_TIMEOUT", "a duration, like 5000 or 5s", millis),
  commandTimeout: parsed("REDIS_COMMAND_TIMEOUT", "a duration, like 5000 or 5s", millis),
  namespace: parsed("SERVICE_NAME", "a name", (text) => (text.isWellFormed() ? text : undefined))
}).pipe(Config.map(({ ca, cert, key, servername, tls, url, username, verify, ...rest }): RedisSettings => ({
  ...rest,
  username: username === undefined ? undefined : Redacted.value(username),
  ...definedOnly(url ?? {}),
  tls: tls === true || url?.tls === true
    ? { ca, cert, key: key === undefined ? undefined : Redacted.make(key), servername, verify }
    : false
})))

/** Whether the environment says where Redis is: `REDIS_URL` or `REDIS_HOST` is set. */
export const isConfigured: Config.Config<boolean> = Config.all([optional("REDIS_URL"), optional("REDIS_HOST")]).pipe(
  Config.map(([redisUrl, redisHost]) => redisUrl !== undefined || redisHost !== undefined)
)

const definedOnly = <A extends object>(fields: A): A =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as A

/** What a URL says of a connection. The failure tells what is expected, and holds no part of the URL. */
export const fromUrl = (redacted: Redacted.Redacted | string): Result.Result<RedisSettings, string> => {
  const text = typeof redacted === "string" ? redacted : Redacted.value(redacted)
  let parts: URL
  try {
    parts = new URL(text)
  } catch {
    return Result.fail(urlForms)
  }
  const scheme = parts.protocol
  if (scheme !== "redis:" && scheme !== "rediss:" && scheme !== "unix:") return Result.fail(urlForms)
  // What follows an unencoded `#` in a password.
  if (parts.hash !== "") return Result.fail(urlForms)
  const query = new Map(parts.searchParams)
  const dbText = scheme === "unix:" ? query.get("db") : parts.pathname.replace(/^\//, "") || query.get("db")
  const db = dbText === undefined || dbText === "" ? undefined : wholeNumber(0, 1_000_000)(dbText)
  if (dbText !== undefined && dbText !== "" && db === undefined) {
    return Result.fail("the number of a database after the host")
  }
  query.delete("db")
  if (query.size > 0) return Result.fail("no query parameter but db")
  const decoded = decodedParts(parts)
  if (decoded === undefined) return Result.fail(urlForms)
  const credentials = {
    username: decoded.username === "" ? undefined : decoded.username,
    password: decoded.password === "" ? undefined : Redacted.make(decoded.password)
  }
  if (scheme === "unix:") {
    // `unix://tmp/redis.sock` names a host called tmp; credentials need one, which then is localhost.
    return decoded.path.length > 1 && (parts.hostname === "" || parts.hostname === "localhost")
      ? Result.succeed({ ...credentials, path: decoded.path, db })
      : Result.fail("the absolute path of a socket after unix://, like unix:///run/redis.sock")
  }
  if (decoded.host === "" || parts.port === "0") return Result.fail(urlForms)
  if (decoded.host.includes(",")) return Result.fail("one host")
  return Result.succeed({
    ...credentials,
    host: decoded.host,
    port: parts.port === "" ? undefined : Number(parts.port),
    db,
    ...(scheme === "rediss:" ? { tls: true } : {})
  })
}

const decodedParts = ({ hostname, password, pathname, username }: URL) => {
  try {
    return {
      username: decodeURIComponent(username),
      password: decodeURIComponent(password),
      host: decodeURIComponent(hostname.replace(/^\[(.*)\]$/, "$1")),
      path: decodeURIComponent(pathname)
    }
  } catch {
    return undefined
  }
}
