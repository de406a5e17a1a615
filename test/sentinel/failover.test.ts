/** What commands, subscriptions and connections of one's own go through when another server becomes the master. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import type { RedisError } from "../../src/RedisError.ts"
import { eventually } from "../support/queuesOnRedis.ts"
import { RedisSentinel } from "../support/redisSentinel.ts"
import { build, followed, incr, through } from "../support/sentinelClient.ts"

/** Runs `one` again and again on many fibers, and keeps what came of it. */
const load = (one: Effect.Effect<number, RedisError>) =>
  Effect.gen(function*() {
    const outcomes = { acknowledged: 0, failed: [] as Array<RedisError> }
    let stopping = false
    const once = Effect.match(one, {
      onSuccess: () => {
        outcomes.acknowledged++
      },
      onFailure: (error) => {
        outcomes.failed.push(error)
      }
    })
    const loop = Effect.repeat(once, { until: () => stopping })
    const loops = yield* Effect.forkScoped(Effect.all(Array.from({ length: 20 }, () => loop), { concurrency: 20 }))
    const stop = Effect.suspend(() => {
      stopping = true
      return Fiber.join(loops)
    })
    return { outcomes, stop }
  })

/** By hand, and without waiting until all has settled. */
const tellThem = ({ name, sentinels }: RedisSentinel) => sentinels[0]!.cli("SENTINEL", "FAILOVER", name)

const ways: ReadonlyArray<[string, (deployment: RedisSentinel) => Effect.Effect<unknown>]> = [
  ["the Sentinels are told to fail over", tellThem],
  ["the master is killed", ({ killMaster }) => killMaster]
]

describe.each(ways)("When %s", (_, failOver) => {
  it.live("no command is run twice in silence, and those that may be are run again", () =>
    Effect.gen(function*() {
      const deployment = yield* RedisSentinel.start()
      const before = yield* deployment.master
      const client = yield* build({ ...through(deployment), commandTimeout: "10 seconds" })
      const safe = 100
      yield* Effect.replicateEffect(incr(client, "once", false), safe)
      yield* before.cli("WAIT", 1, 0)
      const once = yield* load(incr(client, "once", false))
      const again = yield* load(incr(client, "again", true))
      yield* eventually("work is under way", Effect.sync(() => once.outcomes.acknowledged > 200))
      yield* failOver(deployment)
      yield* followed(client, before)
      const acknowledged = once.outcomes.acknowledged
      yield* eventually("work goes on", Effect.sync(() => once.outcomes.acknowledged > acknowledged + 500))
      yield* once.stop
      yield* again.stop
      assert.deepStrictEqual(again.outcomes.failed, [])
      for (const error of once.outcomes.failed) {
        assert.deepInclude(error, { reason: "connection", outcome: "Unknown" })
      }
      const most = safe + once.outcomes.acknowledged + once.outcomes.failed.length
      const final = Number(yield* client.use("get", (redis) => redis.get("once")))
      assert.isAtMost(final, most)
      // Lost is what the old master had not passed on when it ended, or took after its replica had been promoted.
      assert.isAtLeast(final, safe + once.outcomes.acknowledged - acknowledged)
    }).pipe(Effect.scoped))

  it.live("subscriptions, reserved connections and those of libraries find the new one", () =>
    Effect.gen(function*() {
      const deployment = yield* RedisSentinel.start()
      const before = yield* deployment.master
      const client = yield* build(through(deployment))
      const heard: Array<string> = []
      yield* client.subscribe("channel", "c", {
        onMessage: (message) => heard.push(message),
        onGap: () => heard.push("gap")
      })
      const reserved = yield* client.reserve
      const duplicate = yield* client.duplicate()
      const blocked = yield* Effect.forkChild(Effect.flip(
        reserved.use("blpop", (redis) => redis.blpop("list", 0), { timeout: "1 minute" })
      ))
      yield* eventually(
        "it blocks",
        Effect.map(before.clients(({ cmd }) => cmd === "blpop"), ({ length }) => length === 1)
      )
      yield* failOver(deployment)
      const error = yield* Fiber.join(blocked)
      assert.include(["Unknown", "Rejected"], error.outcome)
      yield* followed(client, before)
      assert.strictEqual(yield* incr(reserved, "n", true), 1)
      assert.strictEqual(yield* incr(yield* client.reserve, "n", true), 2)
      // That of ioredis stays until the old master is demoted.
      yield* eventually(
        "ioredis' own has followed",
        Effect.promise(() => duplicate.get("n").then((n) => n === "2", () => false))
      )
      assert.strictEqual(yield* Effect.promise(() => duplicate.incr("n")), 3)
      yield* eventually(
        "what is published comes",
        Effect.map(client.use("publish", (redis) => redis.publish("c", "new")), () => heard.includes("new"))
      )
      assert.strictEqual(heard[0], "gap")
    }).pipe(Effect.scoped))
})
