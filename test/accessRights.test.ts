/** README's ACL rule is enough: every service's contract holds for a user who has these rights and no others. */
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { Context, Duration, Effect, Exit, Layer, Redacted, Schema, Scope, Stream } from "effect"
import { randomUUID } from "node:crypto"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import * as Channel from "../src/Channel.ts"
import { DistributedLockLive } from "../src/DistributedLock.ts"
import { Health } from "../src/Health.ts"
import { ServerClock } from "../src/internal/serverClock.ts"
import { JobQueue } from "../src/JobQueue.ts"
import { PubSub, PubSubLive } from "../src/PubSub.ts"
import { RateLimiterLive } from "../src/RateLimiter.ts"
import { Redis } from "../src/Redis.ts"
import { RedisClient } from "../src/RedisClient.ts"
import type { RedisSettings } from "../src/RedisConfig.ts"
import type { RedisError } from "../src/RedisError.ts"
import { distributedLock } from "./contract/distributedLock.ts"
import { health } from "./contract/health.ts"
import { jobQueue } from "./contract/jobQueue.ts"
import { pubSub } from "./contract/pubSub.ts"
import { rateLimiter } from "./contract/rateLimiter.ts"
import { redis } from "./contract/redis.ts"
import { elapseLive } from "./support/elapse.ts"
import { movableRedis } from "./support/movableRedis.ts"
import { RedisServer } from "./support/redisServer.ts"

const readme = readFileSync(join(import.meta.dirname, "../README.md"), "utf8")
/** What README gives a service called `api`. */
const rights = /^ *user api (on >password .*)$/m.exec(readme)?.[1]

let server: RedisServer
const scope = Scope.makeUnsafe()

beforeAll(async () => {
  server = await Effect.runPromise(Scope.provide(RedisServer.start({ acl: ["default off"] }), scope))
})
afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))

/** Settings of a service of its own, whose user has README's rights, and `more` where the service is called `api`. */
const newService = Effect.fnUntraced(function*(...more: ReadonlyArray<string>) {
  assert.isDefined(rights)
  const namespace = `t-${randomUUID()}`
  const rules = [...rights.split(" "), ...more].map((rule) => rule.replace("api:", `${namespace}:`))
  assert.strictEqual(yield* server.cli("ACL", "SETUSER", namespace, ...rules), "OK")
  const { host, port } = server
  return { host, port, username: namespace, password: Redacted.make("password"), namespace } satisfies RedisSettings
})

const clientWith = (...more: ReadonlyArray<string>) => Layer.unwrap(Effect.map(newService(...more), RedisClient.layer))
const client = Layer.suspend(clientWith)

let lockService: RedisSettings = {}
beforeAll(async () => {
  lockService = await Effect.runPromise(newService())
})
const movable = movableRedis(() => lockService)
const serverClock = { offsetMillis: 0 }
const elapse = (duration: Duration.Input) =>
  Effect.promise(() => {
    serverClock.offsetMillis += Duration.toMillis(duration)
    return sleep(50)
  })
const moved = Layer.succeed(ServerClock, serverClock)
const live = { excludeTestServices: true }

describe("With the rights that README names", () => {
  redis("redis", Layer.provide(Redis.layerClient, client), elapseLive, live)
  // Any pattern: that takes a rule of its own, see below.
  pubSub("redis", Layer.provide(PubSubLive, clientWith("allchannels")), elapseLive, live)
  distributedLock("redis", Layer.provide(DistributedLockLive, movable.layer), movable.elapse)
  rateLimiter("redis", RateLimiterLive.pipe(Layer.provide(client), Layer.provide(moved)), elapse, live)
  health("redis", Layer.provide(Health.layer({ cache: "50 millis" }), client), elapseLive("60 millis"), live)
  jobQueue("redis", {
    layer: (options) => JobQueue.layer(options).pipe(Layer.provide(client), Layer.provide(moved)),
    elapse,
    now: Effect.sync(() => Date.now() + serverClock.offsetMillis),
    worker: { poll: "20 millis" }
  }, live)

  const AllOrders = Channel.pattern("orders:*", Schema.String)

  it.live("a pattern of channels needs a rule for exactly this pattern", () =>
    Effect.scoped(Effect.gen(function*() {
      const pubsub = Context.get(yield* Layer.build(Layer.provide(PubSubLive, client)), PubSub)
      const error = yield* Effect.flip(pubsub.eventsScoped(AllOrders))
      assert.propertyVal(error, "reason", "no-permission")
    })))

  it.live("a pattern of channels is heard with the rule that README names", () =>
    Effect.scoped(Effect.gen(function*() {
      const rule = /`(&api:channel:orders\S*)`/.exec(readme)?.[1]
      assert.isDefined(rule)
      const pubsub = Context.get(yield* Layer.build(Layer.provide(PubSubLive, clientWith(rule))), PubSub)
      const events = yield* pubsub.eventsScoped(AllOrders)
      yield* pubsub.publish(Channel.make("orders:1", Schema.String), "sent")
      assert.deepStrictEqual(yield* Stream.runCollect(Stream.take(events, 1)), [
        { _tag: "Message", channel: "orders:1", message: "sent" }
      ])
    })))

  it.live("others' keys and channels, and administration, are out of reach", () =>
    Effect.scoped(Effect.gen(function*() {
      const { use } = Context.get(yield* Layer.build(client), RedisClient)
      const refused: ReadonlyArray<Effect.Effect<unknown, RedisError>> = [
        use("get", (redis) => redis.get("other:key")),
        use("publish", (redis) => redis.publish("other:channel", "")),
        use("flushall", (redis) => redis.flushall()),
        use("config", (redis) => redis.config("GET", "*")),
        use("acl", (redis) => redis.acl("LIST"))
      ]
      for (const call of refused) assert.strictEqual((yield* Effect.flip(call)).reason, "no-permission")
    })))
})
