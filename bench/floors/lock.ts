/** Two scripts: one takes a lock that is free, the other frees a lock that is ours. */
import { Redis } from "ioredis"
import { randomUUID } from "node:crypto"
import type { LockAdapter } from "../lock.ts"
import type { Open } from "../support/case.ts"

const take = `return redis.call("SET", KEYS[1], ARGV[1], "PX", ARGV[2], "NX")`
const free = `if redis.call("GET", KEYS[1]) == ARGV[1] then return redis.call("DEL", KEYS[1]) end return 0`

export const open: Open<LockAdapter> = async (port) => {
  const client = new Redis({ port })
  const takeSha = await client.script("LOAD", take) as string
  const freeSha = await client.script("LOAD", free) as string
  return {
    contend: async (_contenders, goOn) => {
      while (goOn()) {
        const token = randomUUID()
        if (await client.evalsha(takeSha, 1, "bench", token, 30_000) !== "OK") throw new Error("the lock is taken")
        if (await client.evalsha(freeSha, 1, "bench", token) !== 1) throw new Error("the lock is lost")
      }
    },
    close: () => client.quit()
  }
}
