/** The ACL rules that docs/security.md names are enough for each service's contract, and give nothing that it does not use. */
import { afterAll, assert, beforeAll, beforeEach, describe, it } from "@effect/vitest"
import { Context, Duration, Effect, Exit, Fiber, Layer, Option, Schema, Scope, Stream } from "effect"
import { randomUUID } from "node:crypto"
import { setTimeout as sleep } from "node:timers/promises"
import * as Channel from "../src/Channel.ts"
import { DistributedLock, DistributedLockLive } from "../src/DistributedLock.ts"
import { Health } from "../src/Health.ts"
import { attachEngine, engineOf } from "../src/internal/queueEngine.ts"
import { ServerClock } from "../src/internal/serverClock.ts"
import * as Job from "../src/Job.ts"
import { JobQueue, type JobQueueOptions } from "../src/JobQueue.ts"
import { JobWorker } from "../src/JobWorker.ts"
import { PubSub, PubSubLive } from "../src/PubSub.ts"
import * as RateLimit from "../src/RateLimit.ts"
import { RateLimiter, RateLimiterLive } from "../src/RateLimiter.ts"
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
import { everything, namesOf, newUser, security, services, wide } from "./support/securityRules.ts"

/** A server for as long as the tests of this suite run. */
const ownServer = () => {
  const scope = Scope.makeUnsafe()
  let server: RedisServer
  beforeAll(async () => {
    server = await Effect.runPromise(Scope.provide(RedisServer.start({ acl: ["default off"] }), scope))
  })
  afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))
  return () => server
}

const clientWith = (server: () => RedisServer, ...rules: ReadonlyArray<string>) =>
  Layer.unwrap(Effect.map(Effect.suspend(() => newUser(server(), rules)), RedisClient.layer))

const serverClock = { offsetMillis: 0 }
const elapse = (duration: Duration.Input) =>
  Effect.promise(() => {
    serverClock.offsetMillis += Duration.toMillis(duration)
    return sleep(50)
  })
const moved = Layer.succeed(ServerClock, serverClock)
const live = { excludeTestServices: true }
const queues = {
  elapse,
  now: Effect.sync(() => Date.now() + serverClock.offsetMillis),
  worker: { poll: "20 millis" }
} as const

/** What the server has counted since its start, but for the harness' own and what needs no permission. */
const commandsSeen = (server: RedisServer) =>
  Effect.map(
    server.cli("INFO", "commandstats"),
    (info) =>
      Array.from(String(info).matchAll(/^cmdstat_([^:]+):calls=[1-9]/gm), ([, name]) => name!)
        .filter((name) => !["auth", "quit", "acl|setuser"].includes(name))
        .toSorted()
  )

/** After the whole contract of a service, on a server of its own. */
const usesAll = (server: () => RedisServer, rules: ReadonlyArray<string>) =>
  it.live("uses every command of the rule, and was refused nothing", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* commandsSeen(server()), namesOf("+", rules).toSorted())
      assert.deepStrictEqual(yield* server().cli("ACL", "LOG"), [])
    }))

describe("With the rights that docs/security.md names, and no others:", () => {
  describe("Redis", () => {
    const server = ownServer()
    redis("redis", Layer.provide(Redis.layerClient, clientWith(server, ...services.redis)), elapseLive, live)
    usesAll(server, services.redis)
  })

  describe("PubSub", () => {
    const server = ownServer()
    // Any pattern: that takes a rule of its own, see below.
    const client = clientWith(server, ...services.pubSub, "allchannels")
    pubSub("redis", Layer.provide(PubSubLive, client), elapseLive, live)
    usesAll(server, services.pubSub)
  })

  describe("JobQueue", () => {
    const server = ownServer()
    jobQueue("redis", {
      ...queues,
      layer: (options) =>
        JobQueue.layer(options).pipe(
          Layer.provide(clientWith(server, ...services.jobQueue)),
          Layer.provide(moved)
        )
    }, live)
    usesAll(server, services.jobQueue)
  })

  describe("JobQueue in parts", () => {
    const server = ownServer()
    const queueOf = (rules: ReadonlyArray<string>, namespace: string, options: JobQueueOptions) =>
      Effect.gen(function*() {
        const client = RedisClient.layer(yield* newUser(server(), rules, namespace))
        return Context.get(yield* Layer.build(Layer.provide(JobQueue.layer(options), client)), JobQueue)
      })
    // One service whose calls are those of four users, each with the rights of its part.
    const inParts = Effect.fnUntraced(function*(options: JobQueueOptions) {
      const namespace = `t-${randomUUID()}`
      const controller = yield* queueOf(services.jobQueue, namespace, options)
      const { enqueue, enqueueAll, enqueueChunks, result } = yield* queueOf(services.producer, namespace, options)
      const { counts, events, eventsScoped, get, list, size } = yield* queueOf(services.observer, namespace, options)
      const produced = { enqueue, enqueueAll, enqueueChunks, result }
      const observed = { counts, events, eventsScoped, get, list, size }
      const worker = yield* queueOf(services.worker, namespace, options)
      return attachEngine(JobQueue.of({ ...controller, ...produced, ...observed }), engineOf(worker))
    })
    jobQueue("redis, in parts", {
      ...queues,
      programs: "several",
      layer: (options) => Layer.provide(Layer.effect(JobQueue, inParts(options)), moved)
    }, live)

    it.live("were refused nothing", () =>
      Effect.gen(function*() {
        assert.deepStrictEqual(yield* server().cli("ACL", "LOG"), [])
      }))
  })

  describe("DistributedLock", () => {
    const server = ownServer()
    let settings: RedisSettings = {}
    beforeAll(async () => {
      settings = await Effect.runPromise(newUser(server(), services.lock))
    })
    const movable = movableRedis(() => settings)
    distributedLock("redis", Layer.provide(DistributedLockLive, movable.layer), movable.elapse)
    usesAll(server, services.lock)
  })

  describe("RateLimiter", () => {
    const server = ownServer()
    const client = clientWith(server, ...services.rateLimiter)
    rateLimiter("redis", RateLimiterLive.pipe(Layer.provide(client), Layer.provide(moved)), elapse, live)
    usesAll(server, services.rateLimiter)
  })

  describe("Health", () => {
    const server = ownServer()
    const layer = Health.layer({ cache: "50 millis" })
    health("redis", Layer.provide(layer, clientWith(server, ...services.health)), elapseLive("60 millis"), live)
    usesAll(server, services.health)
  })
})

describe("The rules that docs/security.md names", () => {
  const server = ownServer()
  beforeEach(() => Effect.runPromise(server().cli("ACL", "LOG", "RESET")))
  const AllOrders = Channel.pattern("orders:*", Schema.String)
  const pubSubWith = (...more: ReadonlyArray<string>) =>
    Effect.map(
      Layer.build(Layer.provide(PubSubLive, clientWith(server, ...services.pubSub, ...more))),
      (context) => Context.get(context, PubSub)
    )

  it.live("let publish and subscribe on own and on shared channels", () =>
    Effect.scoped(Effect.gen(function*() {
      const pubsub = yield* pubSubWith()
      for (const shared of [false, true]) {
        const channel = Channel.make("orders:1", Schema.String, { shared })
        const messages = yield* pubsub.subscribeScoped(channel)
        assert.strictEqual(yield* pubsub.publish(channel, "sent"), 1)
        assert.deepStrictEqual(yield* Stream.runCollect(Stream.take(messages, 1)), ["sent"])
      }
    })))

  it.live("let hear a pattern of channels that a rule of its own names, and only then", () =>
    Effect.scoped(Effect.gen(function*() {
      const error = yield* Effect.flip((yield* pubSubWith()).eventsScoped(AllOrders))
      assert.propertyVal(error, "reason", "no-permission")
      const rule = /`(&api:channel:orders\S*)`/.exec(security)?.[1] ?? assert.fail("it names none")
      const pubsub = yield* pubSubWith(rule)
      const events = yield* pubsub.eventsScoped(AllOrders)
      yield* pubsub.publish(Channel.make("orders:1", Schema.String), "sent")
      assert.deepStrictEqual(yield* Stream.runCollect(Stream.take(events, 1)), [
        { _tag: "Message", channel: "orders:1", message: "sent" }
      ])
    })))

  it.live("let lock and guard what is shared, and wake who waits for it", () =>
    Effect.scoped(Effect.gen(function*() {
      const context = yield* Layer.build(Layer.provide(DistributedLockLive, clientWith(server, ...services.lock)))
      const locks = Context.get(context, DistributedLock)
      const [key, shared] = [randomUUID(), { shared: true }]
      const scope = yield* Scope.fork(yield* Scope.Scope)
      const first = yield* Scope.provide(locks.acquire(key, shared), scope)
      yield* locks.guardedSet(first, key, "guarded", shared)
      const next = yield* Effect.forkChild(locks.acquire(key, shared))
      while (Option.getOrThrow(yield* locks.inspect(key, shared)).waiters === 0) yield* Effect.sleep("1 millis")
      yield* Scope.close(scope, Exit.void)
      assert.isAbove((yield* Fiber.join(next)).token, first.token)
      assert.deepStrictEqual(yield* locks.guardedGet(key, shared), Option.some("guarded"))
      assert.deepStrictEqual(yield* server().cli("ACL", "LOG"), [])
    })))

  it.live("let services share a queue", () =>
    Effect.scoped(Effect.gen(function*() {
      const Mail = Job.make("mail", { payload: Schema.String, success: Schema.String, shared: true })
      const [api, mail] = [`t-${randomUUID()}`, `t-${randomUUID()}`]
      const queueIn = (namespace: string) =>
        Effect.map(
          newUser(server(), services.jobQueue, namespace),
          (settings) => Layer.provide(JobQueue.layer(), RedisClient.layer(settings))
        )
      const worker = JobWorker.layer([Mail.handler((text) => Effect.succeed(`sent ${text}`))])
      yield* Layer.build(Layer.provide(worker, yield* queueIn(mail)))
      const queue = Context.get(yield* Layer.build(yield* queueIn(api)), JobQueue)
      const id = yield* queue.enqueue(Mail, "a letter")
      assert.strictEqual(yield* queue.result(Mail, id, { within: "5 seconds" }), "sent a letter")
      assert.deepStrictEqual(yield* server().cli("ACL", "LOG"), [])
    })))

  it.live("are missed with an error that says so, also where a script calls what is not allowed", () =>
    Effect.scoped(Effect.gen(function*() {
      const rules = services.rateLimiter.filter((rule) => rule !== "+set")
      const layer = Layer.provide(RateLimiterLive, clientWith(server, ...rules))
      const limiter = Context.get(yield* Layer.build(layer), RateLimiter)
      const limit = RateLimit.fixedWindow({ name: "hour", limit: 1, window: "1 hour" })
      const error = yield* Effect.flip(limiter.check(limit, "anyone"))
      assert.deepInclude(error, { _tag: "RedisError", reason: "no-permission", outcome: "Rejected" })
    })))

  it("give the parts of a queue less than the whole, and who only looks nothing that writes", () => {
    for (const part of ["producer", "worker", "observer"] as const) {
      assert.includeMembers([...services.jobQueue], [...services[part]])
      assert.isBelow(services[part].length, services.jobQueue.length)
    }
  })

  it("give a user for all of them what each gives", () => {
    const union = new Set(Object.values(services).flat())
    assert.sameMembers([...everything], [...union])
  })

  it.live("are part of README's, which gives commands by categories", () =>
    Effect.gen(function*() {
      const forbidden = namesOf("-", wide)
      for (const command of namesOf("+", everything)) {
        if (wide.includes(`+${command}`)) continue
        const categories = String(yield* server().cli("COMMAND", "INFO", command)).split(",")
        for (const category of forbidden) assert.notInclude(categories, category, command)
      }
      for (const sign of ["~", "&"]) {
        const prefixes = namesOf(sign, wide).map((pattern) => pattern.slice(0, -1))
        for (const name of namesOf(sign, everything)) assert.isTrue(prefixes.some((prefix) => name.startsWith(prefix)))
      }
    }))

  it.live("keep others' keys and channels, and administration, out of reach, also where a category gives commands", () =>
    Effect.scoped(Effect.gen(function*() {
      const { use } = Context.get(yield* Layer.build(clientWith(server, ...wide)), RedisClient)
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
