/** Reads what happens to a queue's jobs, once for all who listen in this process. */
import { Deferred, Effect, PubSub, Result, Schedule, type Scope } from "effect"
import type { RedisClient } from "../RedisClient.ts"
import type { RedisError } from "../RedisError.ts"
import type { ReservedClient } from "../UseOptions.ts"
import type { Transition, TransitionKind } from "./queueEngine.ts"
import { readIds } from "./queueIdList.ts"

// A read that blocks this long shows that the connection lives, and costs nothing.
const blockMillis = 5000

/** Until we look again for a key that is on its way from server to server. */
const pauseMillis = 100

/** Where those who listen to one queue get its transitions from, or why there are no more. */
export type Hub = PubSub.PubSub<Result.Result<ReadonlyArray<Transition>, RedisError>>

/** Reads a queue's transitions on one reserved connection for all who listen in this process. */
export const readForAll = (
  client: RedisClient["Service"],
  key: string,
  onFailure: Effect.Effect<void>
): Effect.Effect<Hub, RedisError, Scope.Scope> =>
  Effect.gen(function*() {
    const hub: Hub = yield* PubSub.sliding<Result.Result<ReadonlyArray<Transition>, RedisError>>(1024)
    // Not on the reserved connection: this one finds the key wherever it has moved, and what is reserved then goes there.
    const [newest] = yield* client.use("xrevrange", (redis) => redis.xrevrange(key, "+", "-", "COUNT", 1), {
      key,
      repeatable: true
    })
    let last = newest?.[0] ?? "0-0"
    const readOn = ({ use }: ReservedClient) =>
      Effect.gen(function*() {
        const reply = yield* use(
          "xread",
          (redis) => redis.xread("COUNT", 200, "BLOCK", blockMillis, "STREAMS", key, last),
          { repeatable: true, timeout: blockMillis * 2 }
        )
        for (const [, entries] of reply ?? []) {
          for (const [id, fields] of entries) {
            last = id
            yield* PubSub.publish(hub, Result.succeed(readTransitions(id, fields)))
          }
        }
      })
    const begun = yield* Deferred.make<void, RedisError>()
    const readAll = Effect.scoped(Effect.gen(function*() {
      const connection = yield* client.reserveFor(key)
      yield* Deferred.succeed(begun, undefined)
      return yield* readOn(connection).pipe(
        // An answer of the server is final; a connection comes back.
        Effect.retry({ while: (error) => error.outcome !== "Rejected" }),
        Effect.forever
      )
    }))
    yield* readAll.pipe(
      // Whoever has the key now has what happened meanwhile.
      Effect.retry({
        while: (error) => Deferred.isDoneUnsafe(begun) && isElsewhere(error),
        schedule: Schedule.spaced(pauseMillis)
      }),
      Effect.catch((error) =>
        Effect.flatMap(Deferred.fail(begun, error), (isFirst) =>
          isFirst ? Effect.void : Effect.andThen(onFailure, PubSub.publish(hub, Result.fail(error))))
      ),
      Effect.forkScoped
    )
    yield* Deferred.await(begun)
    return hub
  })

/** The key has moved to another server, or its server is a replica now; or neither can be reached. */
const isElsewhere = ({ detail, outcome, reason }: RedisError): boolean =>
  outcome !== "Rejected" || reason === "cluster-down" || detail.startsWith("UNBLOCKED force")

const kinds: ReadonlySet<string> = new Set<TransitionKind>([
  "queued",
  "active",
  "retrying",
  "released",
  "stalled",
  "completed",
  "failed",
  "cancelled",
  "removed"
])

/** What a later version, or something else, wrote is left out. */
const readTransitions = (entryId: string, fields: ReadonlyArray<string>): ReadonlyArray<Transition> => {
  const at = Number(entryId.slice(0, entryId.indexOf("-")))
  return pairs(fields).filter(([kind]) => kinds.has(kind)).flatMap(([kind, ids]) =>
    readIds(ids).map((item): Transition => {
      const [id = "", tenant] = item.split("\u0001")
      return { kind: kind as TransitionKind, id, tenant: tenant === undefined ? undefined : readTenant(tenant), at }
    })
  )
}

const readTenant = (escaped: string): string => {
  try {
    return decodeURIComponent(escaped)
  } catch {
    return escaped
  }
}

/** Names and values in turn, as pairs. */
export const pairs = (flat: ReadonlyArray<string>): Array<readonly [string, string]> => {
  const out: Array<readonly [string, string]> = []
  for (let i = 0; i + 1 < flat.length; i += 2) out.push([flat[i]!, flat[i + 1]!])
  return out
}
