/** ioredis clients that libraries want for themselves: connected and closed here, and left alone in between. */
import { Effect, type Scope } from "effect"
import type { Cluster, Redis as Client } from "ioredis"
import type { RedisError } from "../RedisError.ts"
import { allOrNothing } from "./allOrNothing.ts"
import { close, concealed } from "./client.ts"
import { closedError, connectError, isReply } from "./failure.ts"

const goodbyeMillis = 250

/** Connects what `makeClient` makes, and closes it with the scope. Fails when it is not ready in time. */
export const duplicate = (makeClient: () => Client, connectTimeoutMillis: number) =>
  opened(makeClient, (client) => close(client, true), connectTimeoutMillis)

/** `duplicate`, of a Cluster's client. */
export const duplicateCluster = (makeClient: () => Cluster, connectTimeoutMillis: number) =>
  opened(makeClient, closeAll, connectTimeoutMillis)

const opened = <C extends Client | Cluster>(
  makeClient: () => C,
  close: (client: C) => Promise<void>,
  connectTimeoutMillis: number
): Effect.Effect<C, RedisError, Scope.Scope> =>
  allOrNothing(
    Effect.tap(
      Effect.acquireRelease(
        Effect.sync(() => {
          const client = concealed(makeClient())
          // Without a listener, ioredis prints its errors, arguments and all.
          client.on("error", () => {})
          return client
        }),
        (client) => Effect.promise(() => close(client))
      ),
      (client) => connected(client, connectTimeoutMillis)
    )
  )

/** Ends the connections to all servers; those that do not answer are not waited for. */
const closeAll = (client: Cluster): Promise<void> =>
  new Promise((resolve) => {
    const servers = client.nodes()
    const done = () => {
      clearTimeout(timer)
      for (const { stream } of servers) stream?.destroy()
      resolve()
    }
    const timer = setTimeout(done, goodbyeMillis)
    client.once("end", done)
    client.disconnect()
  })

const connected = (client: Client | Cluster, timeoutMillis: number): Effect.Effect<void, RedisError> =>
  Effect.callback((resume) => {
    const done = (effect: Effect.Effect<void, RedisError>) => {
      clearTimeout(timer)
      client.off("ready", succeed).off("error", fail).off("end", end)
      resume(effect)
    }
    const succeed = () => done(Effect.void)
    const fail = (cause: unknown) =>
      done(Effect.fail(connectError("duplicate", cause, isReply(cause) ? "Rejected" : "NotSent")))
    const end = () => fail(closedError())
    const timer = setTimeout(() => fail(new Error("timed out: the server does not answer")), timeoutMillis)
    client.on("ready", succeed).on("error", fail).on("end", end)
    client.connect().catch(() => {
      // one of the events has told why
    })
    return Effect.sync(() => done(Effect.void))
  })
