/** The steps of a lock that must be atomic, on Redis. */
import { Effect, Exit, Scope, Semaphore } from "effect"
import type { RedisClient } from "../RedisClient.ts"
import type { RedisError } from "../RedisError.ts"
import * as scripts from "./lockScripts.ts"
import type { ReplicaWait } from "./replicas.ts"

/** Where a lock's keys are. */
export interface Place {
  readonly namespace: string
  /** What its keys begin with. */
  readonly base: string
}

/** What came of asking for a lock. */
export type Attempt =
  | { readonly held: true; readonly token: number }
  | {
    readonly held: false
    readonly remainingMillis: number
    /** When the owner came into the line; 0 when it is not in it. */
    readonly arrived: number
    readonly ahead: number
  }

/** What is known of a lock that somebody holds. */
export interface Holding {
  readonly holder: string
  readonly token: number
  readonly remainingMillis: number
  readonly heldMillis: number
  readonly waiters: number
}

export interface LockEngine {
  readonly namespace: string
  /** Takes a free lock for `owner`, again too. With patience, puts it in line for that long when the lock is busy. */
  readonly acquire: (
    place: Place,
    owner: string,
    ttlMillis: number,
    line: { readonly patienceMillis: number; readonly arrived: number }
  ) => Effect.Effect<Attempt, RedisError>
  /** False when `owner` no longer holds the lock. */
  readonly extend: (
    place: Place,
    owner: string,
    ttlMillis: number,
    timeoutMillis?: number
  ) => Effect.Effect<boolean, RedisError>
  /** Frees the lock, keeps it for the first in line and wakes that one. `waits`: `owner` may be in line itself. */
  readonly release: (place: Place, owner: string, waits: boolean) => Effect.Effect<boolean, RedisError>
  readonly inspect: (place: Place) => Effect.Effect<Holding | undefined, RedisError>
  /** False when a greater token wrote before. A ttl of 0 is for ever. */
  readonly write: (
    place: Place,
    token: number,
    value: string,
    ttlMillis: number
  ) => Effect.Effect<boolean, RedisError>
  readonly read: (place: Place) => Effect.Effect<string | null, RedisError>
  /** Whether wake-ups for the locks of a namespace arrive; before, nobody may stand in line. */
  readonly listens: (namespace: string) => boolean
  readonly listen: (namespace: string) => Effect.Effect<void, RedisError>
}

/** Who is woken in this process. */
export interface Wakes {
  readonly process: string
  readonly one: (owner: string) => void
  /** After wake-ups may have been lost. */
  readonly all: () => void
}

/** How long a lock is kept for whom it was handed to; longer, and one that died just then would hold up the rest. */
export const keptMillis = 2000

const releaseTimeoutMillis = 2000

/** Locks on Redis. */
export const redisEngine = (
  client: RedisClient["Service"],
  wakes: Wakes,
  replicas: ReplicaWait | undefined
): Effect.Effect<LockEngine, never, Scope.Scope> =>
  Effect.map(Effect.scope, (scope): LockEngine => {
    const heard = new Set<string>()
    const oneAtATime = Semaphore.makeUnsafe(1)
    const lineOf = ({ base }: Place) => ({ lock: base, line: `${base}:line`, patience: `${base}:patience` })
    const fenceOf = ({ base }: Place) => ({ resource: `${base}:value`, fence: `${base}:token` })
    const channelPrefix = (namespace: string) => `${namespace}:lock:wake:`

    // Each may run twice: an owner is one acquisition, and what it did already it finds done.
    return {
      namespace: client.namespace,
      acquire: (place, owner, ttl_ms, { arrived, patienceMillis }) =>
        Effect.map(
          client.script(
            scripts.acquire,
            {
              ...lineOf(place),
              owner,
              ttl_ms,
              keep_ms: ttl_ms + scripts.keepMillis,
              patience_ms: patienceMillis,
              arrived
            },
            { repeatable: true, replicas }
          ),
          (reply): Attempt => {
            if (typeof reply === "number") return { held: true, token: reply }
            const [remainingMillis = 0, arrived = 0, ahead = 0] = reply
            return { held: false, remainingMillis, arrived, ahead }
          }
        ),
      extend: (place, owner, ttl_ms, timeout) =>
        client.script(scripts.extend, { lock: place.base, owner, ttl_ms, keep_ms: ttl_ms + scripts.keepMillis }, {
          repeatable: true,
          timeout
        }),
      release: (place, owner, waits) =>
        client.script(
          scripts.release,
          {
            ...lineOf(place),
            owner,
            waits: waits ? 1 : 0,
            kept_ms: keptMillis,
            channel_prefix: channelPrefix(place.namespace),
            hears_all: client.topology === "cluster" ? "0" : "1"
          },
          { repeatable: true, timeout: releaseTimeoutMillis }
        ),
      inspect: (place) =>
        Effect.map(
          client.script(
            scripts.inspect,
            { lock: place.base, patience: lineOf(place).patience },
            { repeatable: true }
          ),
          (reply) =>
            reply.length === 0 ? undefined : {
              holder: reply[0],
              token: reply[1],
              remainingMillis: reply[2],
              heldMillis: reply[3],
              waiters: reply[4]
            }
        ),
      write: (place, token, value, ttl_ms) =>
        client.script(scripts.write, { ...fenceOf(place), token, value, ttl_ms }, { repeatable: true }),
      read: (place) => client.script(scripts.read, fenceOf(place), { repeatable: true }),
      listens: (namespace) => heard.has(namespace),
      listen: (namespace) =>
        oneAtATime.withPermits(1)(Effect.suspend(() =>
          heard.has(namespace) ?
            Effect.void :
            Effect.flatMap(Scope.fork(scope), (own) =>
              client.subscribe("channel", channelPrefix(namespace) + wakes.process, {
                onMessage: wakes.one,
                onGap: wakes.all
              }).pipe(
                Scope.provide(own),
                Effect.onExit((exit) =>
                  Exit.isSuccess(exit)
                    ? Effect.sync(() => heard.add(namespace))
                    : Scope.close(own, exit)
                )
              ))
        ))
    }
  })
