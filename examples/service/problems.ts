/** What went wrong, as an HTTP response: RFC 9457's problem details, with no word on what is inside. */
import { Cause, Data, Effect, Schema, SchemaIssue } from "effect"
import { InvalidInput, RedisError, type RedisErrorReason } from "effect-redis-kit"
import { HttpRouter, HttpServerError, HttpServerResponse, ProblemDetails } from "effect/http"

/** What a client is told. */
export class Problem extends Data.TaggedError("Problem")<{
  readonly status: number
  readonly title: string
  readonly detail: string
  /** What is wrong with which field. */
  readonly errors?: ReadonlyArray<{ readonly field: string; readonly problem: string }>
  readonly headers?: Readonly<Record<string, string>>
}> {}

export const unknownJob = (id: string) =>
  new Problem({ status: 404, title: "Unknown job", detail: `Nothing is known of a job "${id}"` })

/** Redis is not there, or not able to work; in time it will be. */
const passing: ReadonlySet<RedisErrorReason> = new Set<RedisErrorReason>([
  "connection",
  "authentication",
  "timeout",
  "read-only",
  "loading",
  "cluster-down",
  "out-of-memory"
])

const fieldsOf = SchemaIssue.makeFormatterStandardSchemaV1()

const problemOf = (error: unknown): Problem | undefined => {
  if (error instanceof Problem) return error
  if (Schema.isSchemaError(error)) {
    const errors = fieldsOf(error.issue).issues.map(({ message, path }) => ({
      field: path?.map((part) => String(typeof part === "object" ? part.key : part)).join(".") ?? "",
      problem: message
    }))
    return new Problem({
      status: 400,
      title: "Bad input",
      detail: "See errors for what is wrong with which field",
      errors
    })
  }
  if (error instanceof InvalidInput) {
    return new Problem({
      status: 400,
      title: "Bad input",
      detail: error.message,
      errors: [{ field: error.input, problem: error.problem }]
    })
  }
  if (error instanceof RedisError && passing.has(error.reason)) {
    return new Problem({
      status: 503,
      title: "Unavailable",
      detail: "What this needs cannot be reached now; try again in a moment",
      headers: { "retry-after": "1" }
    })
  }
  return HttpServerError.isHttpServerError(error) ? problemOfRequest(error) : undefined
}

const problemOfRequest = ({ reason }: HttpServerError.HttpServerError): Problem | undefined => {
  if (reason._tag === "RouteNotFound") {
    return new Problem({ status: 404, title: "Not found", detail: "There is nothing at this address" })
  }
  if (reason._tag !== "RequestParseError") return undefined
  return reason.reason === "BodyTooLarge"
    ? new Problem({ status: 413, title: "Too large", detail: "The body is larger than this service takes" })
    : new Problem({ status: 400, title: "Bad input", detail: "The body is not JSON" })
}

const bug = new Problem({ status: 500, title: "Internal error", detail: "This is our mistake, and it was logged" })

/** Answers with a problem instead of failing. What is nobody's mistake but ours is logged. */
export const answerProblems = <E, R>(
  self: Effect.Effect<HttpServerResponse.HttpServerResponse, E, R>
): Effect.Effect<HttpServerResponse.HttpServerResponse, E, R> =>
  Effect.catchCause(self, (cause) => {
    // The client has gone, or the server is going.
    if (Cause.hasInterruptsOnly(cause)) return Effect.failCause(cause)
    const known = problemOf(Cause.squash(cause))
    const { detail, errors, headers, status, title } = known ?? bug
    const response = HttpServerResponse.setHeaders(
      ProblemDetails.toResponse({
        type: ProblemDetails.blankType,
        title,
        status,
        detail,
        ...(errors === undefined ? {} : { errors })
      }),
      headers ?? {}
    )
    return known === undefined
      ? Effect.as(Effect.logError("A request failed for an unforeseen reason", cause), response)
      : Effect.succeed(response)
  })

/** Has all routes, and requests that no route is for, answer with problems. */
export const problemAnswers = HttpRouter.middleware(answerProblems, { global: true })
