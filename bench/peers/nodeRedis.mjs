/** node-redis, with its default options. */
import { createClient } from "redis"
import { fromCallers } from "../support/callers.ts"

/** @type {import("../support/case.ts").Open<import("../redis.ts").RedisAdapter>} */
export const open = async (port) => {
  const client = await createClient({ url: `redis://127.0.0.1:${port}` }).connect()
  return {
    set: (callers, next) => fromCallers(callers, next, ({ key, value }) => client.set(key, value)),
    get: (callers, next, onValue) => fromCallers(callers, next, async (key) => onValue(await client.get(key))),
    close: () => client.close()
  }
}
