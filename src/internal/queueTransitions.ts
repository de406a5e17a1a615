/** Reads what happens to a queue's jobs, once for all who listen in this process. */
import { Effect, PubSub, Result, type Scope } from "effect"
import type { RedisClient } from "../RedisClient.ts"
import type { RedisError } from "../RedisError.ts"
import type { Transition, TransitionKind } from "./queueEngine.ts"
import { readIds } from "./queueIdList.ts"

// A read that blocks this long shows that the connection lives, and costs nothing.
const blockMillis = 5000

/** Where those who listen to one queue get its transitions from, or why there are no more. */
export type Hub = PubSub.PubSub<Result.Result<ReadonlyArray<Transition>, RedisError>>

/** Reads a queue's transitions on one reserved connection for all who listen in this process. */
export const readForAll = (
  client: RedisClient["Service"],
  key: string,
  onFailure: Effect.Effect<void>
): Effect.Effect<Hub, RedisError, Scope.Scope> =>
  Effect.gen(function*() {
    const connection = yield* client.reserveFor(key)
    const hub: Hub = yield* PubSub.sliding<Result.Result<ReadonlyArray<Transition>, RedisError>>(1024)
    const [newest] = yield* connection.use("xrevrange", (redis) => redis.xrevrange(key, "+", "-", "COUNT", 1), {
      repeatable: true
    })
    let last = newest?.[0] ?? "0-0"
    const readOn = Effect.gen(function*() {
      const reply = yield* connection.use(
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
    yield* readOn.pipe(
      // An answer of the server is final; a connection comes back.
      Effect.retry({ while: (error) => error.outcome !== "Rejected" }),
      Effect.forever,
      Effect.catch((error) => Effect.andThen(onFailure, PubSub.publish(hub, Result.fail(error)))),
      Effect.forkScoped
    )
    return hub
  })

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
