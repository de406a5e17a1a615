/** The script that stores jobs. */
import { Schema } from "effect"
import * as RedisScript from "../RedisScript.ts"
import { collectTransitions, queueKeyNames, readyLists, wakeSleepers } from "./queueLua.ts"

/**
 * Stores jobs, all or none; replies for each 1 when it is new and 0 when its id is known.
 * ids, places and tenants: as many as records, between NULs. A place is the priority digit, an optional `l`, and for a
 * delayed job `+millis` or `@millis`; one place alone is for all. `all_new`: the ids were made for this call, so that
 * the first tells whether the call is a repetition.
 */
export const enqueue = RedisScript.make({
  name: "queue.enqueue",
  keys: queueKeyNames,
  args: ["address", "ids", "places", "tenants", "all_new", "event_batches"],
  rest: "records",
  time: true,
  result: Schema.Array(Schema.Finite),
  lua: /* lua */ `
${readyLists}
${wakeSleepers}
${collectTransitions}
local new_ids = {}
for id in string.gmatch(ids, "[^%z]+") do new_ids[#new_ids + 1] = id end
local known = {}
if all_new == "1" then
  local first = new_ids[1]
  if redis.call("HEXISTS", jobs, first) == 1 or redis.call("HEXISTS", outcomes, first) == 1 then
    for i = 1, #new_ids do known[i] = 0 end
    return known
  end
else
  local stored = redis.call("HMGET", jobs, unpack(new_ids))
  local over = redis.call("HMGET", outcomes, unpack(new_ids))
  local seen = {}
  for i, id in ipairs(new_ids) do
    if stored[i] or over[i] or seen[id] then known[i] = 0 end
    seen[id] = true
  end
end

local place_list, tenant_list = {}, {}
for place in string.gmatch(places, "[^%z]+") do place_list[#place_list + 1] = place end
if tenants ~= "" then
  local from = 1
  for i = 1, #new_ids do
    local to = string.find(tenants, "\\0", from, true) or #tenants + 1
    tenant_list[i] = string.sub(tenants, from, to - 1)
    from = to + 1
  end
  redis.call("HSET", meta, "tenants", 1)
end
-- an entry that was left behind when its job was removed must not pass for a new job of the same id
local generation = ""
if all_new ~= "1" and (tonumber(redis.call("HGET", meta, "stale") or "0")) > 0 then
  generation = string.format("%.0f", redis.call("HINCRBY", meta, "generation", 1))
end

local fields, to_list, replies = {}, {}, {}
local ready_count, soonest = 0, nil
local first_delayed = redis.call("ZRANGE", delayed, 0, 0, "WITHSCORES")[2]
for i, id in ipairs(new_ids) do
  if known[i] == 0 then
    replies[i] = 0
  else
    replies[i] = 1
    local record = records[i]
    if generation ~= "" then record = "1;0;0;" .. generation .. string.sub(record, 7) end
    fields[#fields + 1] = id
    fields[#fields + 1] = record
    local priority, lifo, sign, millis = string.match(place_list[i] or place_list[1], "^(%d)(l?)([+@]?)(%d*)$")
    local due = sign == "+" and now_ms + tonumber(millis) or sign == "@" and tonumber(millis) or 0
    if due > now_ms then
      redis.call("ZADD", delayed, due, id)
      if soonest == nil or due < soonest then soonest = due end
    else
      ready_count = ready_count + 1
      local list = ready[tonumber(priority) + 1]
      if lifo == "l" then
        redis.call("LPUSH", list, entry_of(id, generation))
      else
        to_list[list] = to_list[list] or {}
        table.insert(to_list[list], entry_of(id, generation))
      end
    end
    note("queued", id, tenant_list[i])
  end
end
for list, entries in pairs(to_list) do redis.call("RPUSH", list, unpack(entries)) end
if #fields > 0 then redis.call("HSET", jobs, unpack(fields)) end
emit()
-- someone has to look again when the soonest job is due, if that is sooner than planned
if soonest ~= nil and (not first_delayed or soonest < tonumber(first_delayed)) then ready_count = ready_count + 1 end
if redis.call("HGET", meta, "paused") ~= "1" then wake(ready_count) end
return replies
`
})
