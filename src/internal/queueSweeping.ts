/** The part of the step script that forgets what is old enough, a little at a time. */

/** Sweeps outcomes and dead letters. `finished` holds batches of ids, since an entry for each would double their cost. */
export const sweeping = /* lua */ `
local swept_bytes = 0
-- yields how many ids it looked at
local function sweep_finished()
  local batch = redis.call("LINDEX", finished, 0)
  if not batch then return 0 end
  local at = string.match(batch, "^%d+")
  -- whoever wrote it may know what it is
  if not at then return 0 end
  local excess = math.huge
  if tonumber(at) > now_ms - outcome_millis then
    excess = redis.call("HLEN", outcomes) - redis.call("ZCARD", dead) - outcome_count
    if excess <= 0 then return 0 end
  end
  local old = split(string.sub(batch, #at + 2))
  -- an id may have been removed, enqueued and finished again since
  local kept = redis.call("HMGET", outcomes, unpack(old))
  for i = 1, #old do swept_bytes = swept_bytes + #(kept[i] or "") end
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
local function sweep()
  -- by ids, as a batch may hold one or many: jobs that are cancelled one by one leave a batch each
  local swept = 0
  repeat
    local looked = sweep_finished()
    swept = swept + looked
  until looked == 0 or swept >= 500 or swept_bytes > 1048576
  local old_dead = redis.call("ZRANGEBYSCORE", dead, "-inf", now_ms - dead_millis, "LIMIT", 0, 50)
  if #old_dead > 0 then
    redis.call("ZREM", dead, unpack(old_dead))
    redis.call("HDEL", outcomes, unpack(old_dead))
    redis.call("HDEL", jobs, unpack(old_dead))
  end
end
`
