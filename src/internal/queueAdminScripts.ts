/** The scripts by which operators change a queue: one job, all that wait, whether it works, who works. */
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

/** Cancels, removes, retries or promotes one job. Replies 2 when it was done, 1 when its holder was asked, else 0. */
export const change = RedisScript.make({
  name: "queue.change",
  keys: queueKeyNames,
  args: ["address", "kind", "id", "reason", "event_batches", "hears_all"],
  time: true,
  result: Schema.Finite,
  lua: /* lua */ `
${splitting}
${readyLists}
${collectTransitions}
${claiming}
${wakeSleepers}
${endJobs}
local record = redis.call("HGET", jobs, id)
local outcome = redis.call("HGET", outcomes, id)
local holder = redis.call("HGET", holders, id)
local due = redis.call("ZSCORE", delayed, id)
local tenant = record and tenant_of(record) or outcome and string.match(outcome, "^%a;%d+;%d+;%d+;([^;]*)") or ""

-- the entry in its ready list stays behind, and whoever pops it finds that the job is not there
local function take_out()
  if due then redis.call("ZREM", delayed, id) else stale = stale + 1 end
  redis.call("HDEL", failures, id)
end

local reply = 0
if kind == "cancel" then
  if record and not outcome then
    if holder then
      -- after this a full server takes the next one, too
      redis.call("HDEL", cancels, id)
      redis.call("HSET", cancels, id, reason)
      local claim = redis.call("HGET", claims, holder)
      redis.pcall("PUBLISH", string.match(claim or "", "^[^ ]*"), "c" .. address .. "\\0" .. id .. "\\0" .. reason)
      reply = 1
    else
      take_out()
      finish(id, "x", 0, "0;" .. who_of(record) .. "\\n" .. reason)
      note("cancelled", id, tenant)
      reply = 2
    end
  end
elseif kind == "remove" then
  if not holder and (record or outcome) then
    if outcome then
      redis.call("HDEL", outcomes, id)
      redis.call("ZREM", dead, id)
    else
      take_out()
      tell(id)
    end
    redis.call("HDEL", jobs, id)
    note("removed", id, tenant)
    reply = 2
  end
elseif kind == "retry" then
  if record and outcome then
    -- what another version wrote stays as it is
    local rest = string.match(record, "^1;%d*;%d*;(.*)$")
    local again = rest and "1;;;" .. rest or record
    redis.call("ZREM", dead, id)
    redis.call("HDEL", outcomes, id)
    redis.call("HSET", jobs, id, again)
    push(id, again, false)
    note("queued", id, tenant)
    reply = 2
  end
elseif kind == "promote" then
  if record and due then
    redis.call("ZREM", delayed, id)
    push(id, record, false)
    note("queued", id, tenant)
    reply = 2
  end
end
if reply == 2 and (kind == "retry" or kind == "promote") then wake(1) end
keep_stale()
keep_ended()
emit()
return reply
`
})

/**
 * Pauses a queue, and tells those who hold jobs, as some may be claimed and not started; or resumes it, and hands jobs
 * to those who sleep.
 */
export const setPaused = RedisScript.make({
  name: "queue.pause",
  keys: queueKeyNames,
  args: ["address", "paused_now", "event_batches", "hears_all"],
  time: true,
  result: Schema.Finite,
  lua: /* lua */ `
${splitting}
${readyLists}
${collectTransitions}
${claiming}
${wakeSleepers}
paused = paused_now == "1"
-- a full server takes this first, and then the next one, too
redis.call("HDEL", meta, "paused")
if paused then
  redis.call("HSET", meta, "paused", 1)
  local tokens, told = redis.call("ZREVRANGE", leases, 0, 999), {}
  for _, claim in ipairs(#tokens > 0 and redis.call("HMGET", claims, unpack(tokens)) or {}) do
    local inbox = claim and string.match(claim, "^[^ ]+")
    if inbox and not told[inbox] then
      told[inbox] = true
      redis.pcall("PUBLISH", inbox, "p" .. address)
    end
  end
else
  wake(64)
end
keep_stale()
emit()
return 1
`
})

/**
 * Takes a worker off those who are called. What it was given by requests that it has not heard of goes back, and to
 * someone else.
 */
export const leave = RedisScript.make({
  name: "queue.leave",
  keys: queueKeyNames,
  args: ["address", "owner", "unheard", "event_batches", "hears_all"],
  time: true,
  result: Schema.Finite,
  lua: /* lua */ `
${splitting}
${readyLists}
${collectTransitions}
${readingClaims}
${claiming}
${wakeSleepers}
${endJobs}
for _, number in ipairs(unheard == "" and {} or split(unheard)) do
  redis.call("ZREM", sleepers, owner .. " " .. string.match(number, "^%d+"))
  local token = redis.call("HGET", claims, owner .. " " .. number)
  if token then
    local ids = held_by(token)
    for _, id in ipairs(ids) do
      local record = redis.call("HGET", jobs, id)
      local wish = redis.call("HGET", cancels, id)
      redis.call("HDEL", holders, id)
      if record and wish then
        redis.call("HDEL", cancels, id)
        redis.call("HDEL", failures, id)
        finish(id, "x", 0, "0;" .. who_of(record) .. "\\n" .. wish)
        note("cancelled", id, tenant_of(record))
      elseif record then
        to_front(id, record)
        note("released", id, tenant_of(record))
      end
    end
    end_claim(token)
  end
end
push_fronts()
-- whoever was called and goes has left it to others
wake(64)
keep_stale()
keep_ended()
emit()
return 1
`
})

/** Removes up to 500 waiting or delayed jobs; replies how many there were. */
export const drain = RedisScript.make({
  name: "queue.drain",
  keys: queueKeyNames,
  args: ["address", "state", "event_batches"],
  time: true,
  result: Schema.Finite,
  lua: /* lua */ `
${readyLists}
${collectTransitions}
${endJobs}
local gone = {}
local function remove(id, record)
  gone[#gone + 1] = id
  note("removed", id, tenant_of(record))
  tell(id)
end
local popped = 0
if state == "delayed" then
  local entries = redis.call("ZPOPMIN", delayed, 500)
  for i = 1, #entries, 2 do
    popped = popped + 1
    local record = redis.call("HGET", jobs, entries[i])
    if record then remove(entries[i], record) end
  end
else
  local stale = tonumber(redis.call("HGET", meta, "stale") or "0")
  for priority = 1, 10 do
    while popped < 500 do
      local entries = redis.call("LPOP", ready[priority], 500 - popped)
      if not entries then break end
      popped = popped + #entries
      for _, entry in ipairs(entries) do
        local id = string.match(entry, "^[^%z]+")
        local record = redis.call("HGET", jobs, id)
        if record and entry_of(id, (place_of(record))) == entry then remove(id, record) else stale = stale - 1 end
      end
    end
  end
  redis.call("HSET", meta, "stale", math.max(stale, 0))
end
if #gone > 0 then
  redis.call("HDEL", jobs, unpack(gone))
  redis.call("HDEL", failures, unpack(gone))
end
emit()
-- a page of stale entries is no end
if popped > 0 and #gone == 0 then return -1 end
return #gone
`
})
