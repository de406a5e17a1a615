/** The script that moves jobs on, and what goes with it. */
import { Schema } from "effect"
import * as RedisScript from "../RedisScript.ts"
import { collectTransitions, endJobs, queueKeyNames, readyLists, wakeSleepers } from "./queueLua.ts"

/** What `step` replies. */
const StepReply = Schema.Tuple([
  // ids and records of what was claimed
  Schema.Array(Schema.String),
  Schema.Array(Schema.String),
  // their token
  Schema.Finite,
  // which reports were refused, from 0
  Schema.Array(Schema.Finite),
  // ids of jobs to cancel, each followed by why
  Schema.Array(Schema.String),
  // millis until something is due; -1 for nothing
  Schema.Finite
])
export type StepReply = typeof StepReply.Type

/**
 * Takes reports, moves what is due, takes back what nobody holds any more, sweeps a little, and claims.
 * `reports` is a flat JSON array of kind, id, token, tenant and data; see `queueRedis.ts`.
 */
export const step = RedisScript.make({
  name: "queue.step",
  keys: queueKeyNames,
  args: [
    "address",
    "owner",
    "reports",
    "want",
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
${readyLists}
${wakeSleepers}
${collectTransitions}
${endJobs}
-- nobody calls itself; and this takes no memory: after a first write that does, a full server would refuse the reports
redis.call("ZREM", sleepers, owner)
local settings = redis.call("HMGET", meta, "paused", "stale", "tenants", "generation")
local paused, stale, with_tenants = settings[1] == "1", tonumber(settings[2] or "0"), settings[3] == "1"
local to_wake = 0

local function let_go(id)
  redis.call("ZREM", leases, id)
  redis.call("HDEL", holders, id)
end
local function put_back(id, record, delay, front)
  redis.call("HSET", jobs, id, record)
  if delay > 0 then
    redis.call("ZADD", delayed, now_ms + delay, id)
  else
    push(id, record, front)
    to_wake = to_wake + 1
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
-- the reply to a report may have been lost, so that it comes again: it stands if it ended the job
local function has_ended(id, token)
  local outcome = redis.call("HGET", outcomes, id)
  return outcome and string.match(outcome, "^%a;%d+;(%d+);") == token
end
local refused, to_cancel = {}, {}
local done_ids, done_outcomes = {}, {}
if reports ~= "" then
  local list = cjson.decode(reports)
  local ids, count = {}, 0
  for i = 2, #list, 5 do
    count = count + 1
    ids[count] = list[i]
  end
  local held = redis.call("HMGET", holders, unpack(ids))
  -- most queues have none of these most of the time: one question then is enough
  local has_notes = redis.call("EXISTS", cancels, failures, awaited) > 0
  if not has_notes then someone_waits = false end
  local wishes = has_notes and redis.call("HMGET", cancels, unpack(ids)) or {}
  for n = 1, count do
    local at = (n - 1) * 5
    local kind, id, token, tenant, data = list[at + 1], ids[n], list[at + 3], list[at + 4], list[at + 5]
    if held[n] ~= token .. " " .. owner then
      if not (string.find("cdx", kind, 1, true) and has_ended(id, token)) then refused[#refused + 1] = n - 1 end
    elseif kind == "e" then
      redis.call("ZADD", leases, "XX", now_ms + lease_millis, id)
      if wishes[n] then
        to_cancel[#to_cancel + 1] = id
        to_cancel[#to_cancel + 1] = wishes[n]
      end
    elseif kind == "c" then
      done_ids[#done_ids + 1] = id
      ended[#ended + 1] = id
      done_outcomes[#done_outcomes + 1] = id
      done_outcomes[#done_outcomes + 1] = "c;" .. string.format("%.0f", now_ms) .. ";" .. token .. ";" .. data
      note("completed", id, tenant)
    else
      let_go(id)
      if kind == "d" then
        forget_wishes(id)
        finish(id, "f", token, data)
        note("failed", id, tenant)
      elseif kind == "x" then
        cancel(id, token, data, tenant)
      else
        local delay, detail = string.match(data, "^(%d+);(.*)$")
        local record = redis.call("HGET", jobs, id)
        if not record then
          refused[#refused + 1] = n - 1
        elseif wishes[n] then
          cancel(id, token, "0;" .. who_of(record) .. "\\n" .. wishes[n], tenant)
        elseif kind == "r" then
          local failed, rest = string.match(record, "^1;(%d+)(;.*)$")
          if failed then record = "1;" .. string.format("%.0f", failed + 1) .. rest end
          redis.call("HSET", failures, id, detail)
          put_back(id, record, tonumber(delay), false)
          note("retrying", id, tenant)
        else
          put_back(id, record, tonumber(delay), true)
          note("released", id, tenant)
        end
      end
    end
  end
  if #done_ids > 0 then
    redis.call("ZREM", leases, unpack(done_ids))
    redis.call("HDEL", holders, unpack(done_ids))
    redis.call("HDEL", jobs, unpack(done_ids))
    if has_notes then
      redis.call("HDEL", failures, unpack(done_ids))
      redis.call("HDEL", cancels, unpack(done_ids))
    end
    redis.call("HSET", outcomes, unpack(done_outcomes))
    for i = 1, #done_ids do tell(done_ids[i]) end
  end
end

-- 2. delayed jobs that are due
local due = redis.call("ZRANGEBYSCORE", delayed, "-inf", now_ms, "LIMIT", 0, 100)
if #due > 0 then
  redis.call("ZREM", delayed, unpack(due))
  local due_records = redis.call("HMGET", jobs, unpack(due))
  for i, id in ipairs(due) do
    if due_records[i] then
      push(id, due_records[i], false)
      to_wake = to_wake + 1
    end
  end
end

-- 3. jobs whose holder has gone
local lost = redis.call("ZRANGEBYSCORE", leases, "-inf", now_ms, "LIMIT", 0, 100)
for _, id in ipairs(lost) do
  local record = redis.call("HGET", jobs, id)
  local wish = redis.call("HGET", cancels, id)
  let_go(id)
  if record then
    local tenant = tenant_of(record)
    local failed, crashed, rest = string.match(record, "^1;(%d+);(%d+)(;.*)$")
    local who = who_of(record)
    if wish then
      cancel(id, 0, "0;" .. who .. "\\n" .. wish, tenant)
    elseif not failed then
      -- another version wrote it, so that its crashes cannot be counted
      put_back(id, record, 0, true)
      note("stalled", id, tenant)
    elseif crashed + 1 >= tonumber(max_crashes) then
      redis.call("HDEL", failures, id)
      redis.call("HSET", jobs, id, "1;" .. failed .. ";" .. string.format("%.0f", crashed + 1) .. rest)
      finish(id, "f", 0, string.format("%.0f", failed + 1) .. ";" .. who
        .. '\\n{"reason":"crashed","message":"its worker died, or lost its lease, ' .. string.format("%.0f", crashed + 1)
        .. ' times"}')
      note("failed", id, tenant)
    else
      put_back(id, "1;" .. failed .. ";" .. string.format("%.0f", crashed + 1) .. rest, 0, true)
      note("stalled", id, tenant)
    end
  end
end

-- 4. history that is old enough, a little at a time
local function sweep_finished()
  local batch = redis.call("LINDEX", finished, 0)
  if not batch then return 0 end
  local at = string.match(batch, "^%d+")
  local excess = math.huge
  if tonumber(at) > now_ms - outcome_millis then
    excess = redis.call("HLEN", outcomes) - redis.call("ZCARD", dead) - outcome_count
    if excess <= 0 then return 0 end
  end
  local old = {}
  for id in string.gmatch(string.sub(batch, #at + 2), "[^%z]+") do old[#old + 1] = id end
  -- an id may have been removed, enqueued and finished again since
  local kept = redis.call("HMGET", outcomes, unpack(old))
  local gone, looked = {}, 0
  while looked < #old and #gone < excess do
    looked = looked + 1
    local outcome = kept[looked]
    if outcome and string.sub(outcome, 3, 2 + #at) == at then gone[#gone + 1] = old[looked] end
  end
  if #gone > 0 then redis.call("HDEL", outcomes, unpack(gone)) end
  if looked == #old then redis.call("LPOP", finished)
  else redis.call("LSET", finished, 0, at .. ";" .. table.concat(old, "\\0", looked + 1)) end
  return looked
end
-- by ids, as a batch may hold one or many: jobs that are cancelled one by one leave a batch each
local swept = 0
repeat
  local looked = sweep_finished()
  swept = swept + looked
until looked == 0 or swept >= 500
local old_dead = redis.call("ZRANGEBYSCORE", dead, "-inf", now_ms - dead_millis, "LIMIT", 0, 50)
if #old_dead > 0 then
  redis.call("ZREM", dead, unpack(old_dead))
  redis.call("HDEL", outcomes, unpack(old_dead))
  redis.call("HDEL", jobs, unpack(old_dead))
end

-- 5. new claims
local wanted = tonumber(want)
local claimed, claimed_records, token = {}, {}, 0
local budget_spent = false
if wanted > 0 and not paused then
  local lists_left = redis.call("EXISTS", unpack(ready))
  local priority = 1
  -- a single list is that of the default priority, more often than not
  local try_default = lists_left == 1
  -- entries whose job was removed cost time too, and there may be many
  local budget = wanted + 1000
  while wanted > 0 and lists_left > 0 and priority <= 10 and budget > 0 do
    local entries = redis.call("LPOP", ready[try_default and 6 or priority], wanted)
    if not entries then
      if try_default then try_default = false else priority = priority + 1 end
    else
      budget = budget - #entries
      if #entries < wanted then lists_left = lists_left - 1 end
      local plain = entries
      if settings[4] then
        plain = {}
        for i, entry in ipairs(entries) do plain[i] = string.match(entry, "^[^%z]+") end
      end
      local found = redis.call("HMGET", jobs, unpack(plain))
      for i, id in ipairs(plain) do
        local record = found[i]
        if record and (stale > 0 or settings[4]) and entry_of(id, (place_of(record))) ~= entries[i] then record = false end
        if record then
          claimed[#claimed + 1] = id
          claimed_records[#claimed_records + 1] = record
          wanted = wanted - 1
        else
          stale = stale - 1
        end
      end
    end
  end
  budget_spent = wanted > 0 and budget <= 0
  if stale ~= tonumber(settings[2] or "0") then redis.call("HSET", meta, "stale", math.max(stale, 0)) end
  if #claimed > 0 then
    token = redis.call("HINCRBY", meta, "token", 1)
    local holder = string.format("%.0f", token) .. " " .. owner
    local until_ms = now_ms + lease_millis
    local lease_args, holder_args = {}, {}
    for i = 1, #claimed do
      lease_args[2 * i - 1] = until_ms
      lease_args[2 * i] = claimed[i]
      holder_args[2 * i - 1] = claimed[i]
      holder_args[2 * i] = holder
    end
    redis.call("ZADD", leases, unpack(lease_args))
    redis.call("HSET", holders, unpack(holder_args))
    if with_tenants then
      for i = 1, #claimed do note("active", claimed[i], tenant_of(claimed_records[i])) end
    else
      transitions.active = claimed
    end
  end
end

keep_ended()
emit()
-- those who were found here are taken; the rest is for others
if to_wake > #claimed and not paused then wake(to_wake - #claimed) end
local next_ms = -1
if budget_spent then
  next_ms = 0
elseif tonumber(sleep_millis) > 0 and wanted > 0 then
  -- whoever has no room is not called in place of one who has
  redis.call("ZADD", sleepers, now_ms + sleep_millis, owner)
  local first_due = redis.call("ZRANGE", delayed, 0, 0, "WITHSCORES")[2]
  local first_lost = redis.call("ZRANGE", leases, 0, 0, "WITHSCORES")[2]
  local first = math.min(tonumber(first_due or "inf"), tonumber(first_lost or "inf"))
  if first < math.huge then next_ms = math.max(0, first - now_ms) end
end
return {claimed, claimed_records, token, refused, to_cancel, next_ms}
`
})
