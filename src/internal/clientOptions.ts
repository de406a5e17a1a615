/** Connection settings as ioredis wants them. */
import { Duration, Effect, Redacted, Result } from "effect"
import type { RedisOptions } from "ioredis"
import { fromUrl, type RedisSettings } from "../RedisConfig.ts"
import { RedisError } from "../RedisError.ts"
import { isReadOnly } from "./failure.ts"
import { checkName } from "./keys.ts"

/** ioredis' options, except the reply mapping, which the decoders rely on. */
export type Address = Omit<RedisOptions, "replyMapping">

// ioredis keeps a timer for so long after a client was closed, even when its socket is gone.
const disconnectTimeoutMillis = 200

/** What ioredis must not do by itself: run a command twice, or hold one back until it suits. */
export const honest = {
  lazyConnect: true,
  enableOfflineQueue: false,
  maxRetriesPerRequest: 0,
  autoResendUnfulfilledCommands: false,
  autoResubscribe: false,
  enableReadyCheck: false,
  disableClientInfo: true,
  protocol: 2,
  disconnectTimeout: disconnectTimeoutMillis,
  // A demoted server keeps its connections; only a new one finds its way to the master.
  reconnectOnError: (error: Error) => isReadOnly(error.message)
} satisfies Address

/** What ioredis does by default, but for what `close` needs. */
export const ordinary = { lazyConnect: true, disconnectTimeout: disconnectTimeoutMillis } satisfies Address

/** Settings whose URL has been read into its parts, and whose numbers make sense. */
export const resolve = (settings: RedisSettings): Effect.Effect<RedisSettings, RedisError> => {
  const { url, ...rest } = settings
  const problem = problemOf(settings)
  if (problem !== undefined) return malformed(problem)
  if (url === undefined) return Effect.succeed(settings)
  const parsed = fromUrl(url)
  if (Result.isFailure(parsed)) return malformed(`the URL is malformed: expected ${parsed.failure}`)
  const overrides = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== undefined))
  return Effect.succeed({
    ...parsed.success,
    ...overrides,
    // Never downgraded: the scheme's TLS stays when `tls` is false.
    tls: typeof rest.tls === "object" ? rest.tls : rest.tls === true || parsed.success.tls === true
  })
}

const malformed = (detail: string) =>
  Effect.fail(new RedisError({ command: "connect", reason: "connection", outcome: "NotSent", detail }))

const problemOf = ({ commandTimeout, connectTimeout, db, maxReserved, namespace, port }: RedisSettings) => {
  if (!isTimeout(connectTimeout)) return "connectTimeout must be from 1 millisecond to 24 days"
  if (!isTimeout(commandTimeout)) return "commandTimeout must be from 1 millisecond to 24 days"
  if (!isWhole(port, 1, 65_535)) return "port must be from 1 to 65535"
  if (!isWhole(db, 0, 1_000_000)) return "db must be the number of a database, from 0"
  if (!isWhole(maxReserved, 0, 10_000)) return "maxReserved must be from 0 to 10000"
  if (namespace !== undefined && Result.isFailure(checkName("namespace", namespace))) {
    return "the namespace must be a well-formed text of 1 to 512 bytes"
  }
  return undefined
}

const isTimeout = (timeout: Duration.Input | undefined): boolean => {
  if (timeout === undefined) return true
  const millis = Duration.toMillis(timeout)
  return millis >= 1 && millis < 2 ** 31
}

const isWhole = (value: number | undefined, from: number, to: number): boolean =>
  value === undefined || (Number.isInteger(value) && value >= from && value <= to)

/** Where the server is, and how to be let in. */
export const addressOf = (settings: RedisSettings, connectTimeout: number): Address => {
  const tls = settings.tls === true ? {} : settings.tls === false ? undefined : settings.tls
  const options: Address = { db: settings.db ?? 0, connectTimeout, keepAlive: 5000 }
  if (settings.path === undefined) {
    options.host = settings.host ?? "127.0.0.1"
    options.port = settings.port ?? 6379
  } else options.path = settings.path
  if (settings.username !== undefined) options.username = settings.username
  if (settings.password !== undefined) options.password = Redacted.value(settings.password)
  if (tls !== undefined) {
    const servername = tls.servername ?? (isAddress(options.host) ? undefined : options.host)
    options.tls = {
      rejectUnauthorized: tls.verify !== false,
      ...(tls.ca === undefined ? {} : { ca: tls.ca }),
      ...(tls.cert === undefined ? {} : { cert: tls.cert }),
      ...(tls.key === undefined ? {} : { key: Redacted.value(tls.key) }),
      ...(servername === undefined ? {} : { servername })
    }
  }
  return options
}

// Server names are names: TLS forbids addresses there.
const isAddress = (host: string | undefined) => host === undefined || /^[\d.]+$|:/.test(host)
