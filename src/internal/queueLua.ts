/** Pieces of Lua that several queue scripts share. */

/** Splits at NULs, which stand between parts of one argument, or of one value: nothing that is stored holds one. */
export const splitting = /* lua */ `
local function split(text)
  local parts, count, from = {}, 0, 1
  while true do
    local to = string.find(text, "\\0", from, true)
    count = count + 1
    if not to then
      parts[count] = string.sub(text, from)
      return parts
    end
    parts[count] = string.sub(text, from, to - 1)
    from = to + 1
  end
end
`

/** The ready lists as a table, and how a record tells its own. */
export const readyLists = /* lua */ `
local ready = {ready_0, ready_1, ready_2, ready_3, ready_4, ready_5, ready_6, ready_7, ready_8, ready_9}
-- a ready list holds ids, or id, NUL and generation when an entry of the same id may be left further ahead
local function entry_of(id, generation)
  if generation == "" then return id end
  return id .. "\\0" .. generation
end
local function place_of(record)
  local generation, priority, lifo = string.match(record, "^1;%d*;%d*;(%d*);(%d)(l?);")
  -- what another version wrote still reaches whoever says that it cannot be read
  if not generation then return "", ready_5, false end
  return generation, ready[tonumber(priority) + 1], lifo == "l"
end
-- to the end, or to the front for last in, first out and for what has waited already
local function push(id, record, front)
  local generation, list, lifo = place_of(record)
  if lifo or front then redis.call("LPUSH", list, entry_of(id, generation))
  else redis.call("RPUSH", list, entry_of(id, generation)) end
end
`

/** Collects transitions and writes them as one stream entry. */
export const collectTransitions = /* lua */ `
local transitions = {}
-- tenant and name, as they stand in records and outcomes
local function who_of(record)
  return string.match(record, "^1;%d*;%d*;%d*;%d+l?;%w*;([^;]*;[^;]*);") or ";"
end
local function tenant_of(record)
  return string.match(who_of(record), "^[^;]*")
end
-- id, and behind a control character its tenant
local function note(kind, id, tenant)
  local list = transitions[kind]
  if list == nil then
    list = {}
    transitions[kind] = list
  end
  if tenant == nil or tenant == "" then list[#list + 1] = id else list[#list + 1] = id .. "\\1" .. tenant end
end
-- in this order, since one call may end a claim of a job and begin another
local kinds = {"queued", "completed", "failed", "cancelled", "removed", "retrying", "released", "stalled", "active"}
local function emit()
  local fields = {}
  for _, kind in ipairs(kinds) do
    if transitions[kind] ~= nil then
      fields[#fields + 1] = kind
      fields[#fields + 1] = table.concat(transitions[kind], "\\0")
    end
  end
  if #fields > 0 then
    redis.call("XADD", events, "MAXLEN", "~", event_batches, "*", unpack(fields))
  end
end
`

/** Reads a claim. Needs `splitting`. */
export const readingClaims = /* lua */ `
-- the ids of a claim that are still held
local function held_by(token)
  local claim = redis.call("HGET", claims, token)
  if not claim then return {} end
  local parts = split(claim)
  local ids = {}
  if #parts == 1 then return ids end
  local now_held = redis.call("HMGET", holders, unpack(parts, 2))
  for i = 2, #parts do
    if now_held[i - 1] == token then ids[#ids + 1] = parts[i] end
  end
  return ids
end
`

/** Claims jobs: takes them off the lists, leases them together, and settles them. Needs `readyLists` and `collectTransitions`. */
export const claiming = /* lua */ `
local settings = redis.call("HMGET", meta, "paused", "stale", "tenants", "generation", "token")
local paused, stale, with_tenants = settings[1] == "1", tonumber(settings[2] or "0"), settings[3] == "1"
local stale_before = stale

-- entries whose job was removed cost time too, and large records much: whether it stopped before the end of the lists
local stopped_early = false
local most_bytes = 1048576
-- \`slots\` jobs that start at once, and up to \`ahead\` that wait for a moment where they are. Of those none that was lost
-- with a holder: the one before it may be what kills its holders, and it must not be counted as dead with it again.
local function pop(slots, ahead, is_too_much)
  local ids, records, count, bytes = {}, {}, 0, 0
  local wanted = slots + ahead
  local budget = wanted + 1000
  local lists_left = redis.call("EXISTS", unpack(ready))
  local priority = 1
  -- a single list is that of the default priority, more often than not
  local try_default = lists_left == 1
  while count < wanted and lists_left > 0 and priority <= 10 do
    if budget <= 0 then
      stopped_early = true
      break
    end
    local list = ready[try_default and 6 or priority]
    local asked = wanted - count
    local entries = redis.call("LPOP", list, asked)
    if not entries then
      if try_default then try_default = false else priority = priority + 1 end
    else
      budget = budget - #entries
      if #entries < asked then lists_left = lists_left - 1 end
      local plain = entries
      if settings[4] then
        plain = {}
        for i, entry in ipairs(entries) do plain[i] = string.match(entry, "^[^%z]+") end
      end
      local found = redis.call("HMGET", jobs, unpack(plain))
      local function stop_before(i)
        local back = {}
        for j = #entries, i, -1 do back[#back + 1] = entries[j] end
        redis.call("LPUSH", list, unpack(back))
        return ids, records
      end
      for i, id in ipairs(plain) do
        local record = found[i]
        if record and (stale > 0 or settings[4]) and entry_of(id, (place_of(record))) ~= entries[i] then record = false end
        if not record then
          stale = stale - 1
        elseif count >= slots and string.byte(record, 3) ~= 59 then
          return stop_before(i)
        elseif count > 0 and bytes + #record > most_bytes then
          stopped_early = true
          return stop_before(i)
        elseif not (is_too_much and string.byte(record, 3) ~= 59 and is_too_much(id, record)) then
          count = count + 1
          bytes = bytes + #record
          ids[count] = id
          records[count] = record
        end
      end
    end
  end
  return ids, records
end
local function keep_stale()
  if stale ~= stale_before then redis.call("HSET", meta, "stale", math.max(stale, 0)) end
end

-- by the clock, so that tokens grow even when the server has lost its data
local last_token = tonumber(settings[5] or "0")
local function next_token()
  last_token = math.max(last_token + 1, now_us)
  local token = string.format("%.0f", last_token)
  redis.call("HSET", meta, "token", token)
  return token
end
-- a hash of few and short values is a list that is searched from its beginning: one long value makes it a table
local long_value = string.rep("-", 65)
local function lease(token, request, millis, ids, records)
  local holder_args = {"", long_value}
  for i = 1, #ids do
    holder_args[2 * i + 1] = ids[i]
    holder_args[2 * i + 2] = token
  end
  redis.call("HSET", holders, unpack(holder_args))
  redis.call("HSET", claims, token, request .. "\\0" .. table.concat(ids, "\\0"), "#" .. token, #ids, request, token)
  redis.call("ZADD", leases, now_ms + millis, token)
  if with_tenants then
    for i = 1, #ids do note("active", ids[i], tenant_of(records[i])) end
  elseif transitions.active == nil then
    transitions.active = ids
  else
    for i = 1, #ids do note("active", ids[i]) end
  end
end
-- as a reply holds them. A record of ours holds no NUL: with one nobody would know where the others begin.
local function joined(records)
  for i = 1, #records do
    if not records[i] or string.find(records[i], "\\0", 1, true) then records[i] = "" end
  end
  return table.concat(records, "\\0")
end
local function end_claim(token)
  local claim = redis.call("HGET", claims, token)
  redis.call("HDEL", claims, token, "#" .. token, claim and string.match(claim, "^[^%z]*") or token)
  redis.call("ZREM", leases, token)
end
-- jobs of a claim are held no more; with the last one the claim ends
local function settle(token, count)
  if redis.call("HINCRBY", claims, "#" .. token, -count) <= 0 then end_claim(token) end
end

-- those who go back to the front, in their order
local fronts, front_records = {}, {}
local function to_front(id, record)
  fronts[#fronts + 1] = id
  front_records[#fronts] = record
end
local function push_fronts()
  for i = #fronts, 1, -1 do push(fronts[i], front_records[i], true) end
  fronts, front_records = {}, {}
end
`

/** Calls sleeping workers. Needs `claiming`. */
export const wakeSleepers = /* lua */ `
-- a larger one does not go with the letter: what is written to a slow reader has a limit
local largest_sent = 16384
-- who may not publish there is heard by nobody; the script goes on
local function is_heard(inbox, letter)
  local heard = redis.pcall("PUBLISH", inbox, letter)
  -- in a Cluster, nobody knows who listens at other servers: its lease tells, or that it looks by itself
  return type(heard) == "number" and (heard > 0 or hears_all == "0")
end
local function tell_sleeper(letter)
  while true do
    local sleeper = redis.call("ZPOPMIN", sleepers)
    if #sleeper == 0 then return nil end
    local request = sleeper[1]
    local inbox, millis = string.match(request, "^([^ ]+) %d+ ([%d.]+) ")
    -- one that has died, or stopped waiting, takes no job
    if tonumber(sleeper[2]) > now_ms and is_heard(inbox, letter(request)) then
      return request, tonumber(millis)
    end
  end
end
-- hands a job to each of up to \`count\` sleepers, as long as there are both; \`count\` is that of jobs that are there
local function wake(count, is_exact)
  if count <= 0 or paused or redis.call("EXISTS", sleepers) == 0 then return end
  for _ = 1, math.min(count, 64) do
    local ids, records = pop(1, 0)
    if #ids == 0 then return end
    local id, record = ids[1], records[1]
    -- nor does one that was lost with a holder, about which whoever steps decides
    local token = #record <= largest_sent and string.byte(record, 3) == 59 and next_token()
    local request, millis = tell_sleeper(function(request)
      if not token then return "w" .. address .. "\\0" .. request end
      return "j" .. address .. "\\0" .. request .. "\\0" .. token .. "\\0" .. id .. "\\0" .. record
    end)
    if request and token then lease(token, request .. "+", millis, ids, records) else push(id, record, true) end
    -- a job that does not go along is still the first: for it, one is called
    if not request or not (token or is_exact) then return end
  end
end
-- has a sleeper look at the clock again
local function nudge()
  tell_sleeper(function(request) return "w" .. address .. "\\0" .. request end)
end
`

/** Ends jobs: records the outcome, drops the rest, tells who waits. */
export const endJobs = /* lua */ `
local ended = {}
local someone_waits
local function tell(id)
  if someone_waits == nil then someone_waits = redis.call("EXISTS", awaited) == 1 end
  if not someone_waits then return end
  local inboxes = redis.call("HGET", awaited, id)
  if not inboxes then return end
  redis.call("HDEL", awaited, id)
  for inbox in string.gmatch(inboxes, "[^\\n]+") do redis.pcall("PUBLISH", inbox, "f" .. address .. "\\0" .. id) end
end
-- letter: c completed, f failed, x cancelled; token: of the claim that ended it, or 0
local function finish(id, letter, token, outcome)
  redis.call("HSET", outcomes, id, letter .. ";" .. string.format("%.0f", now_ms) .. ";" .. token .. ";" .. outcome)
  if letter == "f" then
    redis.call("ZADD", dead, now_ms, id)
  else
    redis.call("HDEL", jobs, id)
    ended[#ended + 1] = id
  end
  tell(id)
end
local function keep_ended()
  if #ended > 0 then
    redis.call("RPUSH", finished, string.format("%.0f", now_ms) .. ";" .. table.concat(ended, "\\0"))
  end
end
`
