/** Calls as callers make them: with spans, deadlines in durations, and connections of their own. */
import { Effect, type Scope, type Semaphore } from "effect"
import type { Redis as Client } from "ioredis"
import { RedisError } from "../RedisError.ts"
import type { RedisSettings } from "../RedisSettings.ts"
import type { ReservedClient, UseOptions } from "../UseOptions.ts"
import { allOrNothing } from "./allOrNothing.ts"
import type { CallOptions, Calls } from "./call.ts"
import type { Deployment } from "./deployment.ts"
import { patienceMillis } from "./duration.ts"
import { traced } from "./span.ts"

/** What spans tell of a server. */
export const spanAttributes = (settings: RedisSettings) => {
  const first = settings.cluster?.nodes[0] ?? settings.sentinel?.nodes[0]
  return {
    "db.system.name": "redis",
    "db.namespace": String(settings.db ?? 0),
    "server.address": first?.host ?? settings.path ?? settings.host ?? "127.0.0.1",
    ...(settings.path === undefined || first !== undefined
      ? {
        "server.port": first === undefined
          ? settings.port ?? 6379
          : first.port ?? (settings.cluster === undefined ? 26_379 : 6379)
      }
      : {})
  }
}

/** What spans tell of one call. */
export const spanOf = (attributes: Record<string, unknown>, command: string) => () => ({
  ...attributes,
  "db.operation.name": command
})

/** `use`, with what only we know of a call. */
export type Using = <A>(
  command: string,
  send: (client: Client) => Promise<A>,
  options?: UseOptions,
  more?: Pick<CallOptions, "slot" | "sendInFull" | "firstCounts">
) => Effect.Effect<A, RedisError>

/** `use`, by way of `run`. */
export const usedThrough =
  (run: Calls["run"], attributes: Record<string, unknown>): Using => (command, send, options, more) => {
    // What most calls say is what connections understand as it stands.
    if (more === undefined && options?.timeout === undefined) {
      return traced(run(command, send, options), `redis ${command}`, "client", spanOf(attributes, command))
    }
    const timeoutMillis = options?.timeout === undefined ? undefined : patienceMillis(options.timeout)
    if (Number.isNaN(timeoutMillis)) {
      return Effect.fail(notPossible(command, "its timeout is not a duration of at least 0"))
    }
    return traced(
      run(command, send, {
        repeatable: options?.repeatable,
        timeoutMillis,
        fromReplica: options?.fromReplica,
        slot: more?.slot,
        sendInFull: more?.sendInFull,
        firstCounts: more?.firstCounts
      }),
      `redis ${command}`,
      "client",
      spanOf(attributes, command)
    )
  }

/** `reserve`, of up to `most` connections at once. */
export const makeReserve = (
  open: Deployment["openReserved"],
  free: Semaphore.Semaphore,
  most: number,
  timeoutMillis: number,
  attributes: Record<string, unknown>
) =>
(key: string | undefined): Effect.Effect<ReservedClient, RedisError, Scope.Scope> =>
  allOrNothing(Effect.gen(function*() {
    yield* Effect.acquireRelease(
      Effect.timeoutOrElse(Effect.interruptible(free.take(1)), {
        duration: timeoutMillis,
        orElse: () => Effect.fail(notPossible("reserve", `all ${most} reserved connections are in use`))
      }),
      () => free.release(1)
    )
    const connection = yield* open(key)
    return { use: usedThrough(connection.calls.run, attributes) }
  }))

/** What cannot be done here, or now; nothing was sent. */
export const notPossible = (command: string, detail: string) =>
  new RedisError({ command, reason: "connection", outcome: "NotSent", detail })
