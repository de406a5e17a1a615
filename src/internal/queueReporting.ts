/** The parts of the step script by which jobs leave their holder: reports on them, and leases that pass. */

/** Takes `reports`, each only from whoever holds the claim; collects `refused`. */
export const reporting = /* lua */ `
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
local refused = {}
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
`

/** Takes back jobs whose holder has gone: claims whose lease has passed, until there are 100 jobs, or a claim more. */
export const takingBack = /* lua */ `
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
  -- all of them, or their holder might still extend what is left
  for i = 1, #ids do take_back(ids[i], token) end
  room_to_take_back = room_to_take_back - #ids
  if room_to_take_back <= 0 then break end
end
push_fronts()
`
