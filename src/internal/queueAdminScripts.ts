/** What operators and those who wait for results do to a queue: look, list, count, change one job, remove many. */
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
    redis.call("HSET", awaited, id, waiting == "" and inbox or waiting .. "\\n" .. inbox)
  end
end
return known
`
})

/** Cancels, removes, retries or promotes one job. Replies 2 when it was done, 1 when its holder was asked, else 0. */
export const change = RedisScript.make({
  name: "queue.change",
  keys: queueKeyNames,
  args: ["address", "kind", "id", "reason", "event_batches"],
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
      redis.call("HSET", cancels, id, reason)
      local claim = redis.call("HGET", claims, holder)
      redis.call("PUBLISH", string.match(claim or "", "^[^ ]*"), "c" .. address .. "\\0" .. id .. "\\0" .. reason)
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
  args: ["address", "paused_now", "event_batches"],
  time: true,
  result: Schema.Finite,
  lua: /* lua */ `
${splitting}
${readyLists}
${collectTransitions}
${claiming}
${wakeSleepers}
redis.call("HSET", meta, "paused", paused_now)
paused = paused_now == "1"
if paused then
  local tokens, told = redis.call("ZREVRANGE", leases, 0, 999), {}
  for _, claim in ipairs(#tokens > 0 and redis.call("HMGET", claims, unpack(tokens)) or {}) do
    local inbox = claim and string.match(claim, "^[^ ]+")
    if inbox and not told[inbox] then
      told[inbox] = true
      redis.call("PUBLISH", inbox, "p" .. address)
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
  args: ["address", "owner", "unheard", "event_batches"],
  time: true,
  result: Schema.Finite,
  lua: /* lua */ `
${splitting}
${readyLists}
${collectTransitions}
${readingClaims}
${claiming}
${wakeSleepers}
for _, number in ipairs(unheard == "" and {} or split(unheard)) do
  redis.call("ZREM", sleepers, owner .. " " .. string.match(number, "^%d+"))
  local token = redis.call("HGET", claims, owner .. " " .. number)
  if token then
    local ids = held_by(token)
    for _, id in ipairs(ids) do
      local record = redis.call("HGET", jobs, id)
      redis.call("HDEL", holders, id)
      if record then
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
emit()
return 1
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
