/** The script that stores jobs. */
import { Schema } from "effect"
import * as RedisScript from "../RedisScript.ts"
import { queueKeyNames } from "./queueKeys.ts"
import { claiming, collectTransitions, readyLists, splitting, wakeSleepers } from "./queueLua.ts"

/**
 * Stores jobs, all or none, and hands them to whoever sleeps; replies the places, from 0, of those whose ids are known.
 * `new_jobs` are ids and records in turn; places and tenants stand between NULs, one for each job. A place is the
 * priority digit, an optional `l`, and for a delayed job `+millis` or `@millis`; one place alone is for all. `all_new`:
 * the ids were made for this call, so that the first tells whether the call is a repetition. `queued`: the ids as an
 * event holds them, or nothing.
 */
export const enqueue = RedisScript.make({
  name: "queue.enqueue",
  keys: queueKeyNames,
  args: ["address", "places", "tenants", "all_new", "queued", "event_batches", "hears_all"],
  rest: "new_jobs",
  time: true,
  result: Schema.Array(Schema.Finite),
  lua: /* lua */ `
${splitting}
${readyLists}
${collectTransitions}
${claiming}
${wakeSleepers}
local new_ids, count = {}, #new_jobs / 2
for i = 1, count do new_ids[i] = new_jobs[2 * i - 1] end
local known, known_places = {}, {}
if all_new == "1" then
  local first = new_ids[1]
  if redis.call("HEXISTS", jobs, first) == 1 or redis.call("HEXISTS", outcomes, first) == 1 then
    for i = 1, #new_ids do known_places[i] = i - 1 end
    return known_places
  end
else
  local stored = redis.call("HMGET", jobs, unpack(new_ids))
  local over = redis.call("HMGET", outcomes, unpack(new_ids))
  local seen = {}
  for i, id in ipairs(new_ids) do
    if stored[i] or over[i] or seen[id] then
      known[i] = true
      known_places[#known_places + 1] = i - 1
    end
    seen[id] = true
  end
end

local tenant_list
if tenants ~= "" then
  tenant_list = split(tenants)
  with_tenants = true
  redis.call("HSET", meta, "tenants", 1)
end
-- an entry that was left behind when its job was removed must not pass for a new job of the same id
local generation = ""
if all_new ~= "1" and stale > 0 then
  settings[4] = string.format("%.0f", redis.call("HINCRBY", meta, "generation", 1))
  generation = settings[4]
end

local list, lifo, due = nil, false, 0
local function read_place(place)
  local priority, letter, sign, millis = string.match(place, "^(%d)(l?)([+@]?)(%d*)$")
  list, lifo = ready[tonumber(priority) + 1], letter == "l"
  due = sign == "+" and now_ms + tonumber(millis) or sign == "@" and tonumber(millis) or 0
end
local place_list = split(places)
local one_place = #place_list == 1
if one_place then read_place(place_list[1]) end

local to_list, delays = {}, {}
local ready_count, soonest = 0, nil
-- most often all are alike, and nothing is known: then they are stored as they came
if one_place and due == 0 and not lifo and not tenant_list and not known_places[1] and generation == "" then
  ready_count = count
  redis.call("RPUSH", list, unpack(new_ids))
  redis.call("HSET", jobs, unpack(new_jobs))
  transitions.queued = queued == "" and new_ids or {queued}
else
  local fields = {}
  for i, id in ipairs(new_ids) do
    if not known[i] then
      if not one_place then read_place(place_list[i]) end
      local record = new_jobs[2 * i]
      if generation ~= "" then record = "1;;;" .. generation .. string.sub(record, 5) end
      fields[#fields + 1] = id
      fields[#fields + 1] = record
      if due > now_ms then
        delays[#delays + 1] = due
        delays[#delays + 1] = id
        if soonest == nil or due < soonest then soonest = due end
      else
        ready_count = ready_count + 1
        if lifo then
          redis.call("LPUSH", list, entry_of(id, generation))
        else
          to_list[list] = to_list[list] or {}
          table.insert(to_list[list], entry_of(id, generation))
        end
      end
      note("queued", id, tenant_list and tenant_list[i])
    end
  end
  if fields[1] then redis.call("HSET", jobs, unpack(fields)) end
end
for name, entries in pairs(to_list) do redis.call("RPUSH", name, unpack(entries)) end
if soonest then
  local first = redis.call("ZRANGE", delayed, 0, 0, "WITHSCORES")[2]
  redis.call("ZADD", delayed, unpack(delays))
  -- someone has to look again when the soonest job is due, if that is sooner than planned
  if not paused and (not first or soonest < tonumber(first)) then nudge() end
end
wake(ready_count, true)
keep_stale()
emit()
return known_places
`
})
