/** Our everyday commands, with default options. */
import { Effect, ManagedRuntime, Option } from "effect"
import { Redis } from "effect-redis-kit"
import type { RedisAdapter } from "../redis.ts"
import type { Open } from "../support/case.ts"
import { fromCallers } from "./callers.ts"

export const openAt = async (url: string): Promise<RedisAdapter> => {
  const runtime = ManagedRuntime.make(Redis.layer({ url }))
  const redis = await runtime.runPromise(Redis)
  return {
    set: (callers, next) => runtime.runPromise(fromCallers(callers, next, ({ key, value }) => redis.set(key, value))),
    get: (callers, next, onValue) =>
      runtime.runPromise(
        fromCallers(callers, next, (key) => Effect.map(redis.get(key), (value) => onValue(Option.getOrNull(value))))
      ),
    close: () => runtime.dispose()
  }
}

export const open: Open<RedisAdapter> = (port) => openAt(`redis://127.0.0.1:${port}`)
