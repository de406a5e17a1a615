/** The scripts that decide: one for each number of limits, since a script names its keys. */
import { Schema } from "effect"
import * as RedisScript from "../RedisScript.ts"
import { decisionSlack } from "./rateLimitState.ts"

/** Whether they all allow, the server's time in microseconds, and the three numbers of each limit. */
const Standing = Schema.declare((reply: unknown): reply is ReadonlyArray<number> =>
  Array.isArray(reply) && reply.every(Number.isInteger)
)

const indices = (count: number) => Array.from({ length: count }, (_, i) => i + 1)

const keyNames = (count: number): Array<string> => indices(count).map((i) => `key_${i}`)

// In the order of `KnownLimit.args`.
const argNames = (count: number): Array<string> =>
  indices(count).flatMap((i) => [`kind_${i}`, `capacity_${i}`, `period_${i}`, `refill_${i}`, `keep_${i}`])

/**
 * Three numbers tell how a limit stands, as in rateLimitState.ts: level, since and previous. They are kept as doubles in
 * binary, since a server spends more time on their decimals than on all the rest. Replies round the amounts to integers.
 */
const functions = /* lua */ `
local function stored(key)
  local state = redis.call("GET", key)
  if state and #state == 24 then
    return struct.unpack("<ddd", state)
  end
  return 0, now_us, 0
end
local function millionths(amount)
  return math.ceil(amount * 1000000 - 0.001)
end
`

/**
 * Takes `cost` from all limits, or from none and then writes nothing. Replies with the states afterwards. The arithmetic is that of rateLimitState.ts, in
 * the same order, so that both come to the same number.
 */
const makeTake = (count: number) =>
  RedisScript.make({
    name: "limit.take",
    keys: keyNames(count),
    args: ["cost", ...argNames(count)],
    time: true,
    result: Standing,
    lua: /* lua */ `
${functions}
local clock_went_back = false
local function standing(key, kind, capacity, period, refill)
  local level, since, previous = stored(key)
  level, previous = math.min(level, capacity), math.min(previous, capacity)
  if since > now_us then
    since, clock_went_back = now_us, true
  end
  local elapsed = now_us - since
  if kind == "b" then
    level = math.max(0, level - elapsed * refill / period)
    return level, now_us, 0, level
  end
  if elapsed >= period then
    if kind == "s" and elapsed < 2 * period then
      level, since, previous = 0, since + period, level
    else
      level, since, previous = 0, now_us, 0
    end
  end
  if kind == "s" then
    return level, since, previous, previous * (period - (now_us - since)) / period + level
  end
  return level, since, previous, level
end
local amount, allowed = tonumber(cost), 1
${
      indices(count).map((i) => `
capacity_${i} = tonumber(capacity_${i})
local level_${i}, since_${i}, previous_${i}, used_${i} =
  standing(key_${i}, kind_${i}, capacity_${i}, tonumber(period_${i}), tonumber(refill_${i}))
if used_${i} + amount > capacity_${i} + ${decisionSlack} then
  allowed = 0
end`).join("")
    }
if allowed == 0 then
  amount = 0
end
-- A clock that went back is taken note of in any case: otherwise they would wait until it is again where it was.
if allowed == 1 or clock_went_back then
${
      indices(count).map((i) => `
  level_${i} = level_${i} + amount
  redis.call("SET", key_${i}, struct.pack("<ddd", level_${i}, since_${i}, previous_${i}), "PX", keep_${i})`).join("")
    }
end
return {allowed, now_us, ${
      indices(count).map((i) => `millionths(level_${i}), since_${i}, millionths(previous_${i})`).join(", ")
    }}
`
  })

/** The states as they were stored. Replies like `take`; the first number means nothing. */
const makeLook = (count: number) =>
  RedisScript.make({
    name: "limit.look",
    keys: keyNames(count),
    time: true,
    result: Standing,
    lua: /* lua */ `
${functions}
local reply = {0, now_us}
for _, key in ipairs({${keyNames(count).join(", ")}}) do
  local level, since, previous = stored(key)
  reply[#reply + 1] = millionths(level)
  reply[#reply + 1] = since
  reply[#reply + 1] = millionths(previous)
end
return reply
`
  })

const forEachCount = <A>(make: (count: number) => A): (count: number) => A => {
  const made = new Map<number, A>()
  return (count) => {
    let script = made.get(count)
    if (script === undefined) made.set(count, script = make(count))
    return script
  }
}

export const take = forEachCount(makeTake)
export const look = forEachCount(makeLook)

/** What most calls run. */
export const takeOne = take(1)
export const lookOne = look(1)
