/** Turns what ioredis rejects with into a `RedisError` that holds no argument, no value and no credential. */
import { RedisError, type RedisErrorOutcome, type RedisErrorReason } from "../RedisError.ts"

/** The first word of an error reply, and what it means. */
const replies: ReadonlyMap<string, RedisErrorReason> = new Map([
  ["WRONGPASS", "authentication"],
  ["NOAUTH", "authentication"],
  ["READONLY", "read-only"],
  ["MISCONF", "read-only"],
  ["NOREPLICAS", "read-only"],
  ["LOADING", "loading"],
  ["MASTERDOWN", "loading"],
  ["CLUSTERDOWN", "cluster-down"],
  ["TRYAGAIN", "cluster-down"],
  ["MOVED", "cluster-down"],
  ["ASK", "cluster-down"],
  ["CROSSSLOT", "cross-slot"],
  ["OOM", "out-of-memory"],
  ["NOPERM", "no-permission"],
  ["WRONGTYPE", "wrong-type"],
  ["NOSCRIPT", "script"],
  ["BUSY", "script"],
  ["UNKILLABLE", "script"]
])

/** Whether `cause` is an answer of the server, rather than a failure on the way. */
export const isReply = (cause: unknown): cause is Error => cause instanceof Error && cause.name === "ReplyError"

const closedForGood = "Connection is closed for good."

/** The connection was closed with its scope. */
export const closedError = (): Error => new Error(closedForGood)

/** Whether `cause` is ioredis' word for a connection that is not there, or broke. */
export const isBroken = (cause: unknown): boolean =>
  cause instanceof Error &&
  (/^(Reached the max retries|Stream isn't writeable|Connection is closed|Command aborted)/.test(cause.message) ||
    // What ioredis' decoder says of bytes that are no reply.
    cause.message.endsWith("Please report this."))

/** Whether the server takes no writes, said by a command or (before Redis 7, in the middle of the text) by a script. */
export const isReadOnly = (message: string): boolean => wordOf(message) === "READONLY"

const wordOf = (message: string): string | undefined =>
  /^ERR Error running script .*?: -([A-Z]+) /s.exec(message)?.[1] ?? /^[A-Z]+/.exec(message)?.[0]

const reasonOfReply = (message: string): RedisErrorReason => {
  const reason = replies.get(wordOf(message) ?? "")
  if (reason !== undefined) return reason
  // What a script is refused, Redis 7.0 says in these words.
  if (message.startsWith("ERR The user executing the script can't ")) return "no-permission"
  if (/\bscript\b/i.test(message)) return "script"
  if (/password|invalid username/i.test(message)) return "authentication"
  return "reply"
}

// The server repeats arguments in some replies, most of them in quotes; an ioredis error carries them all in `command`.
// Only the text is kept, and of what is in quotes only the name of a command or a setting.
const withoutArguments = (message: string): string => {
  const text = message.replace(/,? with args beginning with:.*/s, "").replace(/(Unsupported option) .*/s, "$1")
  const isHarmless = /^(NOPERM [^']*|OOM [^']*|ERR wrong number of arguments for )'[a-z|-]+'/.test(text)
  return shortened(isHarmless ? text : text.replace(/(^|[ (])'(.*'|.*)/s, "$1'…'"))
}

const shortened = (words: string): string => words.split("\n", 1)[0]!.slice(0, 300)

/** What to say when `command` failed with `cause`; `unknown` tells whether it may have run. */
export const toRedisError = (command: string, cause: unknown, unknown: boolean): RedisError => {
  if (cause instanceof RedisError) return cause
  if (isReply(cause)) return fromReply(command, firstCause(cause))
  const outcome = unknown ? "Unknown" : "NotSent"
  if (isBroken(cause)) {
    return new RedisError({
      command,
      reason: "connection",
      outcome,
      detail: inPlainWords((cause as Error).message, unknown)
    })
  }
  // Not of ioredis' making: the function that sent the command failed, and its words may hold a value.
  const name = cause instanceof Error ? cause.name : typeof cause
  return new RedisError({ command, reason: "reply", outcome, detail: `the function that sent it failed with ${name}` })
}

/** The environment variables to check when there is no connection. */
interface Variables {
  readonly credentials: string
  readonly place: string
  readonly tls: string
}

const serverVariables: Variables = {
  credentials: "REDIS_USERNAME and REDIS_PASSWORD, or those in REDIS_URL",
  place: "REDIS_URL, REDIS_HOST and REDIS_PORT, or REDIS_CLUSTER_NODES",
  tls: "REDIS_TLS"
}

export const sentinelVariables: Variables = {
  credentials: "REDIS_SENTINEL_USERNAME and REDIS_SENTINEL_PASSWORD",
  place: "REDIS_URL, or REDIS_SENTINELS",
  tls: "REDIS_SENTINEL_TLS"
}

/** What to say when there is no connection because of `cause`: names what to check. */
export const connectError = (
  command: string,
  cause: unknown,
  outcome: RedisErrorOutcome,
  variables = serverVariables
): RedisError => {
  if (cause instanceof RedisError) return cause
  if (isReply(cause)) {
    const reason = reasonOfReply(cause.message)
    const detail = withoutArguments(cause.message) + hintForReply(reason, variables)
    return new RedisError({ command, reason, outcome, detail })
  }
  const words = isBroken(cause) ? inPlainWords((cause as Error).message, outcome === "Unknown") : messageOf(cause)
  const timedOut = /timed? ?out/i.test(words)
  return new RedisError({
    command,
    reason: timedOut ? "timeout" : "connection",
    outcome,
    detail: shortened(words) + hintFor(words, timedOut, variables)
  })
}

const fromReply = (command: string, cause: Error): RedisError =>
  new RedisError({
    command,
    reason: reasonOfReply(cause.message),
    outcome: "Rejected",
    detail: withoutArguments(cause.message) + hintForRights(cause.message)
  })

// A script's reply does not even name the command.
const hintForRights = (message: string): string =>
  reasonOfReply(message) === "no-permission"
    ? "; ACL LOG at the server tells what was refused; docs/security.md has the rules (of the namespace in SERVICE_NAME)"
    : ""

// EXEC only says that it was aborted; what was wrong, the command before it was told.
const firstCause = (cause: Error & { readonly previousErrors?: ReadonlyArray<Error> }): Error =>
  cause.message.startsWith("EXECABORT") ? cause.previousErrors?.[0] ?? cause : cause

// `localhost` has two addresses; when both fail, Node packs the two reasons into an error without a message.
const messageOf = (cause: unknown): string => {
  if (cause instanceof AggregateError) return cause.errors.map(messageOf).join(", ")
  if (!(cause instanceof Error)) return "unknown failure"
  const { library, reason } = cause as { readonly library?: unknown; readonly reason?: unknown }
  // OpenSSL's own message begins with the id of a thread, and ends with a line of its source.
  if (typeof library === "string" && typeof reason === "string") return `${library}: ${reason}`
  return cause.message || cause.name
}

const hintForReply = (reason: RedisErrorReason, { credentials }: Variables): string => {
  if (reason === "authentication") return `; check the user and the password (${credentials})`
  return reason === "loading" ? "; wait until it has, or raise the connect timeout (REDIS_CONNECT_TIMEOUT)" : ""
}

const hintFor = (words: string, timedOut: boolean, { place, tls }: Variables): string => {
  // It says what to do itself.
  if (/REDIS_TLS/.test(words)) return ""
  if (/certificate required/.test(words)) {
    return "; the server asks for a certificate of ours, and none was sent: set REDIS_TLS_CERT and REDIS_TLS_KEY"
  }
  // An alert is what the other side says of us.
  if (/\balert\b.*(certificate|unknown ca)|key values mismatch/i.test(words)) {
    return "; our own certificate was not accepted: check REDIS_TLS_CERT and REDIS_TLS_KEY, and its dates"
  }
  if (/certificate|self.signed|altname/i.test(words)) {
    return "; the server's certificate was not accepted: check REDIS_TLS_CA and REDIS_TLS_SERVERNAME, and its dates"
  }
  if (/PEM/.test(words)) return "; check the texts or files in REDIS_TLS_CA, REDIS_TLS_CERT and REDIS_TLS_KEY"
  if (/\bSSL\b|\bTLS\b|alert/i.test(words)) return `; check ${tls}, and the TLS certificate and key`
  if (timedOut) {
    return `; check host, port, firewall, and whether it speaks TLS (${place}, and ${tls})`
  }
  return /ECONNREFUSED|ENOTFOUND|EAI_AGAIN|ENOENT|EHOSTUNREACH|ENETUNREACH/.test(words)
    ? `; check that a server listens there (${place})`
    : ""
}

// ioredis' own words tell how it works, not what happened.
const inPlainWords = (message: string, unknown: boolean): string => {
  if (message === closedForGood) return "the connection is closed"
  if (/^(Connection is closed|Reached the max retries|Command aborted)/.test(message)) {
    return unknown ? "the connection broke before the reply came" : "there is no connection"
  }
  if (message.startsWith("Stream isn't writeable")) return "there is no connection"
  // The decoder's own words quote what it could not read.
  return "what answers there does not speak Redis' protocol"
}
