/** Pieces of Lua that several queue scripts share. */

/** The keys of a queue, in the order in which `queueKeys` spells them. All are in one slot. */
export const queueKeyNames = [
  // ids of jobs that may run, one list a priority
  "ready_0",
  "ready_1",
  "ready_2",
  "ready_3",
  "ready_4",
  "ready_5",
  "ready_6",
  "ready_7",
  "ready_8",
  "ready_9",
  // id -> record, of every job that is not completed or cancelled
  "jobs",
  // ids by when they are due
  "delayed",
  // ids by when their lease passes
  "leases",
  // id -> claim token and its owner, of every job with a lease
  "holders",
  // id -> how the job ended
  "outcomes",
  // completed and cancelled ids, a batch an entry, oldest first
  "finished",
  // ids of dead letters by when they died
  "dead",
  // id -> the last failure of a job that will be tried again
  "failures",
  // id -> why a running job is to be cancelled
  "cancels",
  // id -> inboxes that wait for its end
  "awaited",
  // inboxes of those who wait for jobs, by when they stop
  "sleepers",
  // paused, token, stale, generation
  "meta",
  // transitions, a batch an entry
  "events"
] as const

export type QueueKey = typeof queueKeyNames[number]

/** The ready lists as a table, and how a record tells its own. */
export const readyLists = /* lua */ `
local ready = {ready_0, ready_1, ready_2, ready_3, ready_4, ready_5, ready_6, ready_7, ready_8, ready_9}
-- a ready list holds ids, or id, NUL and generation when an entry of the same id may be left further ahead
local function entry_of(id, generation)
  if generation == "" then return id end
  return id .. "\\0" .. generation
end
local function place_of(record)
  local generation, priority, lifo = string.match(record, "^1;%d+;%d+;(%d*);(%d)(l?);")
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

/** Calls sleeping workers, as many as there are jobs for. */
export const wakeSleepers = /* lua */ `
local function wake(count)
  while count > 0 do
    local sleeping = redis.call("ZPOPMIN", sleepers, math.min(count, 64))
    if #sleeping == 0 then return end
    for i = 1, #sleeping, 2 do
      -- one that has died, or stopped waiting, takes no job
      local inbox = string.match(sleeping[i], "^[^ ]+")
      if tonumber(sleeping[i + 1]) > now_ms and redis.call("PUBLISH", inbox, "w" .. address) > 0 then
        count = count - 1
      end
    end
  end
end
`

/** Collects transitions and writes them as one stream entry. */
export const collectTransitions = /* lua */ `
local transitions = {}
-- tenant and name, as they stand in records and outcomes
local function who_of(record)
  return string.match(record, "^1;%d+;%d+;%d*;%d+l?;%d*;([^;]*;[^;]*);") or ";"
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
  for inbox in string.gmatch(inboxes, "[^\\n]+") do redis.call("PUBLISH", inbox, "f" .. address .. "\\0" .. id) end
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
