/** The script that moves jobs on, and what goes with it. */
import { Schema } from "effect"
import * as RedisScript from "../RedisScript.ts"
import { queueKeyNames } from "./queueKeys.ts"
import {
  claiming,
  collectTransitions,
  endJobs,
  readingClaims,
  readyLists,
  splitting,
  wakeSleepers
} from "./queueLua.ts"
import { reporting, takingBack } from "./queueReporting.ts"
import { sweeping } from "./queueSweeping.ts"

/** What `step` replies. */
const StepReply = Schema.Tuple([
  // for each claim its token, its ids and its records, the latter two between NULs
  Schema.Array(Schema.String),
  // which reports were refused, from 0
  Schema.Array(Schema.Finite),
  // tokens of claims that were not extended
  Schema.Array(Schema.String),
  // ids of jobs to cancel, each followed by why
  Schema.Array(Schema.String),
  // 1 when the queue is paused
  Schema.Finite,
  // 1 when the requester is called as soon as there are jobs
  Schema.Finite,
  // millis until something is due; -1 for nothing
  Schema.Finite
])
export type StepReply = typeof StepReply.Type

/**
 * Takes reports, moves what is due, takes back what nobody holds any more, sweeps a little, and claims.
 * `reports`, between NULs: for each group of jobs its kind, token, tenant, data, number of ids, and the ids.
 * `unheard`: earlier requests whose claims are replied again, as nobody may have heard of them.
 */
export const step = RedisScript.make({
  name: "queue.step",
  keys: queueKeyNames,
  args: [
    "address",
    "owner",
    "number",
    "unheard",
    "reports",
    "extend",
    "want",
    "ahead",
    "takes_last_chance",
    "lease_millis",
    "sleep_millis",
    "outcome_millis",
    "outcome_count",
    "dead_millis",
    "max_crashes",
    "last_chance_millis",
    "event_batches",
    "hears_all"
  ],
  time: true,
  result: StepReply,
  lua: /* lua */ `
${splitting}
local unheard_list = unheard == "" and {} or split(unheard)
-- nobody calls itself; and this takes no memory: after a first write that does, a full server would refuse the reports
local awake = {owner .. " " .. number}
for _, request in ipairs(unheard_list) do
  if string.sub(request, -1) == "+" then awake[#awake + 1] = owner .. " " .. string.sub(request, 1, -2) end
end
redis.call("ZREM", sleepers, unpack(awake))
${readyLists}
${collectTransitions}
${readingClaims}
${claiming}
${wakeSleepers}
${endJobs}
${sweeping}
${reporting}
local to_cancel = {}
local has_wishes = has_notes and redis.call("EXISTS", cancels) == 1
local function ask_to_cancel(ids)
  for i, wish in ipairs(#ids > 0 and redis.call("HMGET", cancels, unpack(ids)) or {}) do
    if wish then
      to_cancel[#to_cancel + 1] = ids[i]
      to_cancel[#to_cancel + 1] = wish
    end
  end
end

-- claims that are kept
local not_extended = {}
if extend ~= "" then
  for token in string.gmatch(extend, "%d+") do
    if not redis.call("ZSCORE", leases, token) then
      not_extended[#not_extended + 1] = token
    else
      redis.call("ZADD", leases, "XX", now_ms + lease_millis, token)
      if has_wishes then ask_to_cancel(held_by(token)) end
    end
  end
end

-- claims that nobody may have heard of: they take the room that is asked for
local claimed, told_again = {}, 0
for _, request in ipairs(unheard_list) do
  local token = redis.call("HGET", claims, owner .. " " .. request)
  if token then
    local ids = held_by(token)
    if #ids > 0 then
      redis.call("ZADD", leases, "XX", now_ms + lease_millis, token)
      told_again = told_again + #ids
      claimed[#claimed + 1] = token
      claimed[#claimed + 1] = table.concat(ids, "\\0")
      claimed[#claimed + 1] = joined(redis.call("HMGET", jobs, unpack(ids)))
      if has_wishes then ask_to_cancel(ids) end
    end
  end
end

-- delayed jobs that are due
local due = redis.call("ZRANGEBYSCORE", delayed, "-inf", now_ms, "LIMIT", 0, 100)
if #due > 0 then
  redis.call("ZREM", delayed, unpack(due))
  local due_records = redis.call("HMGET", jobs, unpack(due))
  for i, id in ipairs(due) do
    if due_records[i] then push(id, due_records[i], false) end
  end
end

${takingBack}
-- history that is old enough, a little at a time
sweep()

-- new claims
local slots, wanted = math.max(0, want - told_again), math.max(0, want + ahead - told_again)
-- one that will be a dead letter if its holder dies: of several, those that are not to blame would die with the one
-- that is, so that a holder has one at a time, and all others come again a little later
local function is_too_much(id, record)
  if (tonumber(string.match(record, "^1;(%d+);")) or 0) + 1 < tonumber(max_crashes) then return false end
  if takes_last_chance == "1" then
    takes_last_chance = "0"
    return false
  end
  redis.call("ZADD", delayed, now_ms + last_chance_millis, id)
  return true
end
local claimed_count = 0
if wanted > 0 and not paused then
  local ids, records = pop(slots, wanted - slots, is_too_much)
  claimed_count = #ids
  if claimed_count > 0 then
    local token = next_token()
    claimed[#claimed + 1] = token
    claimed[#claimed + 1] = table.concat(ids, "\\0")
    claimed[#claimed + 1] = joined(records)
    lease(token, owner .. " " .. number, lease_millis, ids, records)
  end
end

-- whoever found less than it has room for has left nothing
if claimed_count >= slots then wake(64) end
keep_stale()
keep_ended()
emit()
local is_called, next_ms = 0, -1
if stopped_early then
  next_ms = 0
elseif tonumber(sleep_millis) > 0 and claimed_count < slots then
  -- whoever has no room is not called in place of one who has
  is_called = 1
  redis.call("ZADD", sleepers, now_ms + sleep_millis, owner .. " " .. number)
  local first_due = redis.call("ZRANGE", delayed, 0, 0, "WITHSCORES")[2]
  local first_lost = redis.call("ZRANGE", leases, 0, 0, "WITHSCORES")[2]
  local first = math.min(tonumber(first_due or "inf"), tonumber(first_lost or "inf"))
  if first < math.huge then next_ms = math.max(0, first - now_ms) end
end
return {claimed, refused, not_extended, to_cancel, paused and 1 or 0, is_called, next_ms}
`
})
