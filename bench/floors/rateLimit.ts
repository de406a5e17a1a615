/** One script that counts in a window. */
import { Redis } from "ioredis"
import { limit, type RateLimitAdapter } from "../ratelimit.ts"
import { fromCallers } from "../support/callers.ts"
import type { Open } from "../support/case.ts"

const count = `
local used = redis.call("INCRBY", KEYS[1], ARGV[1])
if used == tonumber(ARGV[1]) then
  redis.call("PEXPIRE", KEYS[1], ARGV[2])
  return { used, ARGV[2] }
end
return { used, redis.call("PTTL", KEYS[1]) }
`

export const open: Open<RateLimitAdapter> = async (port) => {
  const client = new Redis({ port })
  const sha = await client.script("LOAD", count) as string
  return {
    check: (callers, next, onVerdict) =>
      fromCallers(callers, next, async (subject) => {
        const [used] = await client.evalsha(sha, 1, `limit:${subject}`, 1, 60_000) as [number, number]
        onVerdict(used <= limit)
      }),
    close: () => client.quit()
  }
}
