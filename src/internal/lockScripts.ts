/**
 * Lua of `DistributedLock`. A lock is one string: a version byte, the token and the end of the lease in server
 * milliseconds as doubles, and the holder. (Packed, since spelling numbers costs more than all else in the scripts.)
 * While owners wait there are two sorted sets: `line` by their arrival, `patience` by the time until which they surely
 * listen. Owners are `<process>:<n>`; a process is woken on a channel of its own.
 */
import { Schema } from "effect"
import * as RedisScript from "../RedisScript.ts"

// The record outlives the lease by this much, so that tokens grow also when the server's clock is set back.
export const keepMillis = 60 * 60 * 1000

// Owners of which nothing is heard are no longer in line; the line itself goes this much later.
const lineSlackMillis = 60 * 1000

const readRecord = `
local record = redis.call("GET", lock)
local token, until_ms, holder = 0, 0, ""
if record then
  if string.byte(record) ~= 1 then
    return redis.error_reply("ERR the lock's record has a format that this version does not know")
  end
  token, until_ms, holder = struct.unpack("<dds", record, 2)
end
`

const writeRecord = (holder: string, keep: string) =>
  `redis.call("SET", lock, struct.pack("<Bdds", 1, token, until_ms, ${holder}), "PX", ${keep})`

/**
 * Takes a free lock, or takes it again for its holder. Otherwise, with patience, puts the owner in line: at `arrived`
 * if it was there before. Replies the token; or how long the other's lease lasts, the arrival, and how many are ahead.
 */
export const acquire = RedisScript.make({
  name: "lock.acquire",
  keys: ["lock", "line", "patience"],
  args: ["owner", "ttl_ms", "keep_ms", "patience_ms", "arrived"],
  time: true,
  result: Schema.Union([Schema.Finite, Schema.Array(Schema.Finite)]),
  lua: /* lua */ `
${readRecord}
if until_ms > now_ms and holder ~= owner then
  if patience_ms == "0" then
    return {until_ms - now_ms, 0, 0}
  end
  local place = redis.call("ZSCORE", line, owner)
  if not place then
    place = arrived == "0" and string.format("%.0f", now_us) or arrived
    redis.call("ZADD", line, place, owner)
  end
  redis.call("ZADD", patience, now_ms + patience_ms, owner)
  redis.call("PEXPIRE", line, patience_ms + ${lineSlackMillis})
  redis.call("PEXPIRE", patience, patience_ms + ${lineSlackMillis})
  return {until_ms - now_ms, tonumber(place), redis.call("ZRANK", line, owner)}
end
-- the same holder again: its reply was lost, or the lock was kept for it
if until_ms <= now_ms then
  token = math.max(token + 1, now_us)
end
until_ms = now_ms + ttl_ms
${writeRecord("owner", "keep_ms")}
if (patience_ms ~= "0" or arrived ~= "0") and redis.call("ZREM", line, owner) == 1 then
  redis.call("ZREM", patience, owner)
end
return token
`
})

/** Has the owner's lease last `ttl_ms` from now, unless it lasts longer. Replies 0 when it is no longer the holder. */
export const extend = RedisScript.make({
  name: "lock.extend",
  keys: ["lock"],
  args: ["owner", "ttl_ms", "keep_ms"],
  time: true,
  result: Schema.BooleanFromBit,
  lua: /* lua */ `
${readRecord}
if holder ~= owner or until_ms <= now_ms then
  return 0
end
until_ms = math.max(until_ms, now_ms + ttl_ms)
-- a full server refuses a first write that could take memory, and all of them would lose their locks
redis.call("PEXPIRE", lock, keep_ms)
redis.call("SETRANGE", lock, "1", struct.pack("<dd", token, until_ms))
return 1
`
})

/**
 * Frees the owner's lock, and with `waits`, takes it out of the line. The first in line whose process listens is woken;
 * the lock is kept for it for `kept_ms`, so that nobody slips in between. Replies 0 when the owner was not the holder.
 */
export const release = RedisScript.make({
  name: "lock.release",
  keys: ["lock", "line", "patience"],
  args: ["owner", "waits", "kept_ms", "channel_prefix", "hears_all"],
  time: true,
  result: Schema.BooleanFromBit,
  lua: /* lua */ `
${readRecord}
if waits == "1" then
  redis.call("ZREM", line, owner)
  redis.call("ZREM", patience, owner)
end
if holder ~= owner or until_ms <= now_ms then
  return 0
end
while true do
  local next = redis.call("ZPOPMIN", line)[1]
  if not next then
    break
  end
  local listens_until = redis.call("ZSCORE", patience, next)
  redis.call("ZREM", patience, next)
  if listens_until and tonumber(listens_until) > now_ms then
    token = math.max(token + 1, now_us)
    until_ms = now_ms + kept_ms
${writeRecord("next", `kept_ms + ${keepMillis}`)}
    -- whom nobody hears is gone; its place is the next one's. In a Cluster, other servers' subscribers are not counted
    local heard = redis.pcall("PUBLISH", channel_prefix .. string.match(next, "^[^:]+"), next)
    if type(heard) == "number" and (heard > 0 or hears_all == "0") then
      return 1
    end
  end
end
-- the lease ends now; its token stays
redis.call("SETRANGE", lock, "1", struct.pack("<dd", token, 0))
return 1
`
})

/** Replies holder, token, remaining and held milliseconds, and how many wait; nothing when the lock is free. */
export const inspect = RedisScript.make({
  name: "lock.inspect",
  keys: ["lock", "patience"],
  time: true,
  result: Schema.Union([
    Schema.Tuple([Schema.String, Schema.Finite, Schema.Finite, Schema.Finite, Schema.Finite]),
    Schema.Tuple([])
  ]),
  lua: /* lua */ `
${readRecord}
if until_ms <= now_ms then
  return {}
end
local held_ms = math.max(0, now_ms - math.floor(token / 1000))
return {holder, token, until_ms - now_ms, held_ms, redis.call("ZCOUNT", patience, now_ms + 1, "+inf")}
`
})

// A guarded text is a string of its own; beside it, `<version> <token> <until>`, where 0 is for ever.
const readFence = `
local greatest, until_ms = 0, 0
local fenced = redis.call("GET", fence)
if fenced then
  local version
  version, greatest, until_ms = string.match(fenced, "^(%d+) (%d+) (%d+)$")
  if version ~= "1" then
    return redis.error_reply("ERR the fence has a format that this version does not know")
  end
  greatest, until_ms = tonumber(greatest), tonumber(until_ms)
end
`

/** Writes `value` unless a greater token wrote before; `ttl_ms` of 0 is for ever. Replies 0 when it did not. */
export const write = RedisScript.make({
  name: "lock.write",
  keys: ["resource", "fence"],
  args: ["token", "value", "ttl_ms"],
  time: true,
  result: Schema.BooleanFromBit,
  lua: /* lua */ `
${readFence}
if greatest > tonumber(token) then
  return 0
end
if ttl_ms == "0" then
  redis.call("SET", resource, value)
  redis.call("SET", fence, "1 " .. token .. " 0")
else
  -- the fence outlives the value, so that it still stands when a late writer comes
  local gone = ttl_ms + ${keepMillis}
  redis.call("SET", resource, value, "PX", gone)
  redis.call("SET", fence, string.format("1 %s %.0f", token, now_ms + ttl_ms), "PX", gone)
end
return 1
`
})

/** Replies the guarded text, unless its time is up. */
export const read = RedisScript.make({
  name: "lock.read",
  keys: ["resource", "fence"],
  time: true,
  result: Schema.NullOr(Schema.String),
  lua: /* lua */ `
${readFence}
if until_ms ~= 0 and until_ms <= now_ms then
  return false
end
return redis.call("GET", resource)
`
})
