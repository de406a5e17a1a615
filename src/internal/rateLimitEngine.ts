/** The steps of a rate limiter that have to be atomic, and how Redis does them. */
import { Effect } from "effect"
import type { RedisClient } from "../RedisClient.ts"
import type { RedisError } from "../RedisError.ts"
import { keyBase, sharedNamespace } from "./keys.ts"
import * as scripts from "./rateLimitScripts.ts"
import type { KnownLimit, LimitState } from "./rateLimitState.ts"

/** How limits stand, each at its place. Amounts are rounded up to millionths, on each engine alike. */
export interface Standing {
  /** The engine's time, in microseconds. */
  readonly now: number
  /** May be from before `now`. */
  readonly states: ReadonlyArray<LimitState>
}

export interface Decision extends Standing {
  readonly allowed: boolean
}

export interface LimitEngine {
  /** Takes `cost` from all limits, or from none. */
  readonly take: (
    limits: ReadonlyArray<KnownLimit>,
    subject: string,
    cost: number
  ) => Effect.Effect<Decision, RedisError>
  readonly look: (limits: ReadonlyArray<KnownLimit>, subject: string) => Effect.Effect<Standing, RedisError>
  readonly forget: (limits: ReadonlyArray<KnownLimit>, subject: string) => Effect.Effect<void, RedisError>
}

/** Limits on Redis. All keys of a subject are in one slot, `shared` ones too: the subject is their hash tag. */
export const redisEngine = (client: RedisClient["Service"], timeoutMillis: number | undefined): LimitEngine => {
  const once = { timeout: timeoutMillis }
  const again = { timeout: timeoutMillis, repeatable: true }

  const keysOf = (limits: ReadonlyArray<KnownLimit>, subject: string) => {
    const base = keyBase("", "limit", subject)
    return limits.map(({ keySuffix, shared }) => (shared ? sharedNamespace : client.namespace) + base + keySuffix)
  }

  return {
    take: (limits, subject, cost) => {
      const script = scripts.take(limits.length)
      const values: Record<string, string> = { cost: String(cost) }
      keysOf(limits, subject).forEach((key, i) => {
        values[script.keys[i]!] = key
        const { args } = limits[i]!
        for (let arg = 0; arg < args.length; arg++) values[script.args[1 + i * args.length + arg]!] = args[arg]!
      })
      return Effect.map(
        client.script(script, values, once),
        (reply) => ({ allowed: reply[0] === 1, now: reply[1]!, states: statesOf(reply) })
      )
    },
    look: (limits, subject) => {
      const script = scripts.look(limits.length)
      const values: Record<string, string> = {}
      keysOf(limits, subject).forEach((key, i) => values[script.keys[i]!] = key)
      return Effect.map(
        client.script(script, values, again),
        (reply) => ({ now: reply[1]!, states: statesOf(reply) })
      )
    },
    forget: (limits, subject) => {
      const keys = keysOf(limits, subject)
      return Effect.asVoid(client.use("limit.forget", (redis) => redis.unlink(...keys), { ...again, key: keys[0] }))
    }
  }
}

const statesOf = (reply: ReadonlyArray<number>): ReadonlyArray<LimitState> => {
  const states: Array<LimitState> = []
  for (let i = 2; i < reply.length; i += 3) {
    states.push({ level: reply[i]! / 1e6, since: reply[i + 1]!, previous: reply[i + 2]! / 1e6 })
  }
  return states
}
