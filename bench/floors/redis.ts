/** ioredis, with its default options, auto-pipelining off among them. */
import { Redis } from "ioredis"
import type { RedisAdapter } from "../redis.ts"
import { fromCallers } from "../support/callers.ts"
import type { Open } from "../support/case.ts"

export const openWith = async (
  options: { readonly port: number; readonly enableAutoPipelining: boolean }
): Promise<RedisAdapter> => {
  const client = new Redis(options)
  return {
    set: (callers, next) => fromCallers(callers, next, ({ key, value }) => client.set(key, value)),
    get: (callers, next, onValue) => fromCallers(callers, next, async (key) => onValue(await client.get(key))),
    close: () => client.quit()
  }
}

export const open: Open<RedisAdapter> = (port) => openWith({ port, enableAutoPipelining: false })
