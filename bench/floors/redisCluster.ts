/** ioredis' Cluster client, with its default options. */
import { Cluster } from "ioredis"
import type { RedisAdapter } from "../redis.ts"
import { fromCallers } from "../support/callers.ts"
import type { Open } from "../support/case.ts"

export const open: Open<RedisAdapter> = async (port) => {
  const client = new Cluster([{ host: "127.0.0.1", port }])
  await new Promise((resolve) => client.once("ready", resolve))
  return {
    set: (callers, next) => fromCallers(callers, next, ({ key, value }) => client.set(key, value)),
    get: (callers, next, onValue) => fromCallers(callers, next, async (key) => onValue(await client.get(key))),
    close: () => client.quit()
  }
}
