/** The scripts that look at a queue, for operators and for those who wait for results: one job, counts, lists. */
import { Schema } from "effect"
import * as RedisScript from "../RedisScript.ts"
import { queueKeyNames } from "./queueKeys.ts"
import { readingClaims, readyLists, splitting } from "./queueLua.ts"

const TextOrNull = Schema.NullOr(Schema.String)

/** id, record, outcome, failure (behind a token), due millis, token of the claim: all that is stored of a job. */
const Snapshot = Schema.Tuple([Schema.String, TextOrNull, TextOrNull, TextOrNull, TextOrNull, TextOrNull])
export type SnapshotReply = typeof Snapshot.Type

const describe = /* lua */ `
local function describe(id)
  return {
    id,
    redis.call("HGET", jobs, id),
    redis.call("HGET", outcomes, id),
    redis.call("HGET", failures, id),
    redis.call("ZSCORE", delayed, id),
    redis.call("HGET", holders, id)
  }
end
`

/** Tells all of one job. With an inbox, and a job that has not ended, asks to tell that inbox of its end. */
export const look = RedisScript.make({
  name: "queue.look",
  keys: ["jobs", "outcomes", "failures", "delayed", "holders", "awaited"],
  args: ["id", "inbox"],
  result: Snapshot,
  lua: /* lua */ `
${describe}
local known = describe(id)
if inbox ~= "" and known[2] and not known[3] then
  local waiting = redis.call("HGET", awaited, id) or ""
  if not string.find("\\n" .. waiting .. "\\n", "\\n" .. inbox .. "\\n", 1, true) then
    -- after this a full server takes the next one, too
    redis.call("HDEL", awaited, id)
    redis.call("HSET", awaited, id, waiting == "" and inbox or waiting .. "\\n" .. inbox)
  end
end
return known
`
})

/** Replies waiting, delayed, active, dead, finished, paused, and when the oldest waiting job was enqueued (or -1). */
export const counts = RedisScript.make({
  name: "queue.counts",
  keys: queueKeyNames,
  result: Schema.Tuple([
    Schema.Finite,
    Schema.Finite,
    Schema.Finite,
    Schema.Finite,
    Schema.Finite,
    Schema.Finite,
    Schema.Finite
  ]),
  lua: /* lua */ `
${readyLists}
local waiting, oldest = 0, -1
for priority = 1, 10 do
  local length = redis.call("LLEN", ready[priority])
  waiting = waiting + length
  if length > 0 then
    -- the head has waited longest, unless its entry is stale or priorities of last in, first out stand before it
    local id = string.match(redis.call("LINDEX", ready[priority], 0), "^[^%z]+")
    local record = redis.call("HGET", jobs, id)
    local spelled = record and string.match(record, "^1;%d*;%d*;%d*;%d+l?;(%w+);")
    local enqueued = spelled and tonumber(spelled, 36)
    if enqueued and (oldest == -1 or enqueued < oldest) then oldest = enqueued end
  end
end
waiting = waiting - tonumber(redis.call("HGET", meta, "stale") or "0")
local died = redis.call("ZCARD", dead)
return {
  math.max(waiting, 0),
  redis.call("ZCARD", delayed),
  math.max(redis.call("HLEN", holders) - 1, 0),
  died,
  redis.call("HLEN", outcomes) - died,
  redis.call("HGET", meta, "paused") == "1" and 1 or 0,
  oldest
}
`
})

/** A page of jobs in a state, from a position; replies where the next page begins ("" for none) and the jobs. */
export const list = RedisScript.make({
  name: "queue.list",
  keys: queueKeyNames,
  args: ["state", "cursor", "limit"],
  result: Schema.Tuple([Schema.String, Schema.Array(Snapshot)]),
  lua: /* lua */ `
${splitting}
${readyLists}
${readingClaims}
local ids, next_cursor = {}, ""
local count = tonumber(limit)
if state == "waiting" then
  local priority, from = string.match(cursor, "^(%d+):(%d+)$")
  priority, from = tonumber(priority or "1"), tonumber(from or "0")
  local looked = 0
  while priority <= 10 and #ids < count and looked < 1000 do
    local entries = redis.call("LRANGE", ready[priority], from, from + count - #ids - 1)
    for _, entry in ipairs(entries) do
      local id = string.match(entry, "^[^%z]+")
      local record = redis.call("HGET", jobs, id)
      if record and entry_of(id, (place_of(record))) == entry then ids[#ids + 1] = id end
    end
    looked = looked + #entries
    from = from + #entries
    if #entries == 0 then
      priority = priority + 1
      from = 0
    end
  end
  if priority <= 10 then next_cursor = string.format("%d:%d", priority, from) end
elseif state == "finished" then
  -- newest first: batches from the end, and ids of a batch from its end
  local batch, from = string.match(cursor, "^(%d+):(%d+)$")
  batch, from = tonumber(batch or "1"), tonumber(from or "0")
  local looked = 0
  while #ids < count and looked < 100 do
    looked = looked + 1
    local entry = redis.call("LINDEX", finished, -batch)
    if not entry then
      batch = nil
      break
    end
    local at, batch_ids = string.match(entry, "^(%d+);(.*)$")
    local all = {}
    for id in string.gmatch(batch_ids, "[^%z]+") do all[#all + 1] = id end
    while from < #all and #ids < count do
      local id = all[#all - from]
      from = from + 1
      local outcome = redis.call("HGET", outcomes, id)
      if outcome and string.sub(outcome, 3, 2 + #at) == at then ids[#ids + 1] = id end
    end
    if from >= #all then
      batch = batch + 1
      from = 0
    end
  end
  if batch then next_cursor = string.format("%d:%d", batch, from) end
elseif state == "active" then
  -- claim by claim
  local claim, from = string.match(cursor, "^(%d+):(%d+)$")
  claim, from = tonumber(claim or "0"), tonumber(from or "0")
  local looked = 0
  while #ids < count and looked < 1000 do
    looked = looked + 1
    local token = redis.call("ZRANGE", leases, claim, claim)[1]
    if not token then
      claim = nil
      break
    end
    local held = held_by(token)
    while from < #held and #ids < count do
      from = from + 1
      ids[#ids + 1] = held[from]
    end
    if from >= #held then
      claim = claim + 1
      from = 0
    end
  end
  if claim then next_cursor = string.format("%d:%d", claim, from) end
else
  local from = tonumber(cursor) or 0
  if state == "delayed" then ids = redis.call("ZRANGE", delayed, from, from + count - 1)
  else ids = redis.call("ZREVRANGE", dead, from, from + count - 1) end
  if #ids == count then next_cursor = string.format("%d", from + count) end
end
local page = {}
if #ids > 0 then
  local stored = redis.call("HMGET", jobs, unpack(ids))
  local over = redis.call("HMGET", outcomes, unpack(ids))
  local failed = redis.call("HMGET", failures, unpack(ids))
  local due = redis.call("ZMSCORE", delayed, unpack(ids))
  local held = redis.call("HMGET", holders, unpack(ids))
  for i, id in ipairs(ids) do page[i] = {id, stored[i], over[i], failed[i], due[i], held[i]} end
end
return {next_cursor, page}
`
})
