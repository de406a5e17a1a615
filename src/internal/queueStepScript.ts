/** The script that moves jobs on, and what goes with it. */
import { Schema } from "effect"
import * as RedisScript from "../RedisScript.ts"
import {
  claiming,
  collectTransitions,
  endJobs,
  queueKeyNames,
  readingClaims,
  readyLists,
  splitting,
  wakeSleepers
} from "./queueLua.ts"
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
    "event_batches"
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
local function let_go(id, token)
  redis.call("HDEL", holders, id)
  settle(token, 1)
end
local function put_back(id, record, delay, front)
  redis.call("HSET", jobs, id, record)
  if delay > 0 then
    redis.call("ZADD", delayed, now_ms + delay, id)
  elseif front then
    to_front(id, record)
  else
    push(id, record, false)
  end
end
local function forget_wishes(id)
  redis.call("HDEL", cancels, id)
  redis.call("HDEL", failures, id)
end
local function cancel(id, token, outcome, tenant)
  finish(id, "x", token, outcome)
  forget_wishes(id)
  note("cancelled", id, tenant)
end

-- 1. reports, each only from whoever holds the claim
-- the reply to a report may have been lost, so that it comes again: it stands if it ended the job, or the attempt
local function was_taken(kind, id, token)
  local failure = kind == "r" and redis.call("HGET", failures, id)
  if failure and string.match(failure, "^%d+") == token then return true end
  local outcome = redis.call("HGET", outcomes, id)
  return outcome and string.match(outcome, "^%a;%d+;(%d+);") == token
end
local refused, to_cancel = {}, {}
local has_notes = redis.call("EXISTS", cancels, failures, awaited) > 0
-- most queues have none of these most of the time: one question then is enough
if not has_notes then someone_waits = false end

local function report(kind, id, token, tenant, data, wish)
  let_go(id, token)
  if kind == "d" then
    forget_wishes(id)
    finish(id, "f", token, data)
    note("failed", id, tenant)
    return true
  end
  if kind == "x" then
    cancel(id, token, data, tenant)
    return true
  end
  local delay, detail = string.match(data, "^(%d+);(.*)$")
  local record = redis.call("HGET", jobs, id)
  if not record then return false end
  if wish then
    cancel(id, token, "0;" .. who_of(record) .. "\\n" .. wish, tenant)
  elseif kind == "r" then
    local crashed, failed, rest = string.match(record, "^1;(%d*);(%d*)(;.*)$")
    if failed then record = "1;" .. crashed .. ";" .. string.format("%.0f", (tonumber(failed) or 0) + 1) .. rest end
    redis.call("HSET", failures, id, token .. ";" .. detail)
    put_back(id, record, tonumber(delay), false)
    note("retrying", id, tenant)
  else
    put_back(id, record, tonumber(delay), true)
    note("released", id, tenant)
  end
  return true
end

if reports ~= "" then
  local parts = split(reports)
  local all_ids, at = {}, 1
  while at < #parts do
    local count = tonumber(parts[at + 4])
    for i = at + 5, at + 4 + count do all_ids[#all_ids + 1] = parts[i] end
    at = at + 5 + count
  end
  local held = redis.call("HMGET", holders, unpack(all_ids))
  local wishes = has_notes and redis.call("HMGET", cancels, unpack(all_ids)) or {}
  local done_ids, done_outcomes, done_tokens, completed, done = {}, {}, {}, {}, 0
  local n = 0
  at = 1
  while at < #parts do
    local kind, token, tenant, data, count = parts[at], parts[at + 1], parts[at + 2], parts[at + 3], tonumber(parts[at + 4])
    local outcome = kind == "c" and "c;" .. string.format("%.0f", now_ms) .. ";" .. token .. ";" .. data
    local done_before = done
    for i = at + 5, at + 4 + count do
      n = n + 1
      local id = parts[i]
      if held[n] ~= token then
        if kind == "g" or not was_taken(kind, id, token) then refused[#refused + 1] = n - 1 end
      elseif outcome then
        done = done + 1
        done_ids[done] = id
        done_outcomes[2 * done - 1] = id
        done_outcomes[2 * done] = outcome
        completed[done] = tenant == "" and id or id .. "\\1" .. tenant
      elseif not report(kind, id, token, tenant, data, wishes[n]) then
        refused[#refused + 1] = n - 1
      end
    end
    if done > done_before then done_tokens[token] = (done_tokens[token] or 0) + done - done_before end
    at = at + 5 + count
  end
  if done > 0 then
    transitions.completed = completed
    redis.call("HDEL", holders, unpack(done_ids))
    redis.call("HDEL", jobs, unpack(done_ids))
    if has_notes then
      redis.call("HDEL", failures, unpack(done_ids))
      redis.call("HDEL", cancels, unpack(done_ids))
    end
    redis.call("HSET", outcomes, unpack(done_outcomes))
    for token, count in pairs(done_tokens) do settle(token, count) end
    if someone_waits ~= false then
      for i = 1, done do tell(done_ids[i]) end
    end
    for i = 1, #ended do done_ids[done + i] = ended[i] end
    ended = done_ids
  end
  push_fronts()
end

-- 2. claims that are kept
local not_extended = {}
if extend ~= "" then
  local has_wishes = has_notes and redis.call("EXISTS", cancels) == 1
  for token in string.gmatch(extend, "%d+") do
    if not redis.call("ZSCORE", leases, token) then
      not_extended[#not_extended + 1] = token
    else
      redis.call("ZADD", leases, "XX", now_ms + lease_millis, token)
      if has_wishes then
        local ids = held_by(token)
        for i, wish in ipairs(#ids > 0 and redis.call("HMGET", cancels, unpack(ids)) or {}) do
          if wish then
            to_cancel[#to_cancel + 1] = ids[i]
            to_cancel[#to_cancel + 1] = wish
          end
        end
      end
    end
  end
end

-- 3. claims that nobody may have heard of
local claimed = {}
for _, request in ipairs(unheard_list) do
  local token = redis.call("HGET", claims, owner .. " " .. request)
  if token then
    local ids = held_by(token)
    if #ids > 0 then
      redis.call("ZADD", leases, "XX", now_ms + lease_millis, token)
      claimed[#claimed + 1] = token
      claimed[#claimed + 1] = table.concat(ids, "\\0")
      claimed[#claimed + 1] = joined(redis.call("HMGET", jobs, unpack(ids)))
    end
  end
end

-- 4. delayed jobs that are due
local due = redis.call("ZRANGEBYSCORE", delayed, "-inf", now_ms, "LIMIT", 0, 100)
if #due > 0 then
  redis.call("ZREM", delayed, unpack(due))
  local due_records = redis.call("HMGET", jobs, unpack(due))
  for i, id in ipairs(due) do
    if due_records[i] then push(id, due_records[i], false) end
  end
end

-- 5. jobs whose holder has gone: claims whose lease has passed, up to 100 jobs
local function take_back(id, token)
  local record = redis.call("HGET", jobs, id)
  local wish = redis.call("HGET", cancels, id)
  let_go(id, token)
  if not record then return end
  local tenant, who = tenant_of(record), who_of(record)
  local crashed, failed, rest = string.match(record, "^1;(%d*);(%d*)(;.*)$")
  if wish then
    cancel(id, 0, "0;" .. who .. "\\n" .. wish, tenant)
  elseif not crashed then
    -- another version wrote it, so that its crashes cannot be counted
    put_back(id, record, 0, true)
    note("stalled", id, tenant)
  else
    local crashes = string.format("%.0f", (tonumber(crashed) or 0) + 1)
    record = "1;" .. crashes .. ";" .. failed .. rest
    if tonumber(crashes) >= tonumber(max_crashes) then
      redis.call("HDEL", failures, id)
      redis.call("HSET", jobs, id, record)
      finish(id, "f", 0, string.format("%.0f", (tonumber(failed) or 0) + 1) .. ";" .. who
        .. '\\n{"reason":"crashed","message":"its worker died, or lost its lease, ' .. crashes .. ' times"}')
      note("failed", id, tenant)
    else
      put_back(id, record, 0, true)
      note("stalled", id, tenant)
    end
  end
end
local room_to_take_back = 100
for _, token in ipairs(redis.call("ZRANGEBYSCORE", leases, "-inf", now_ms, "LIMIT", 0, 100)) do
  local ids = held_by(token)
  if #ids == 0 then end_claim(token) end
  for i = 1, math.min(#ids, room_to_take_back) do take_back(ids[i], token) end
  room_to_take_back = room_to_take_back - #ids
  if room_to_take_back <= 0 then break end
end
push_fronts()

-- 6. history that is old enough, a little at a time
sweep()

-- 7. new claims
local slots, wanted = tonumber(want), want + ahead
-- one that will be a dead letter if its holder dies: of several, those that are not to blame would die with the one
-- that is, so that a holder has one at a time, and all others come again a little later
local function is_too_much(id, record)
  if (tonumber(string.match(record, "^1;(%d+);")) or 0) + 1 < tonumber(max_crashes) then return false end
  if takes_last_chance == "1" then
    takes_last_chance = "0"
    return false
  end
  redis.call("ZADD", delayed, now_ms + 100, id)
  return true
end
local claimed_count = 0
if wanted > 0 and not paused then
  local ids, records = pop(slots, tonumber(ahead), is_too_much)
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
