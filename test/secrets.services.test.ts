/** Nothing secret is shown by services: of jobs, messages and locks, by the services themselves, and by programs. */
import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Deferred, Effect, Layer, Redacted, Schema, Stream } from "effect"
import * as Channel from "../src/Channel.ts"
import { DistributedLock, DistributedLockLive } from "../src/DistributedLock.ts"
import { Health, HealthLive } from "../src/Health.ts"
import * as Job from "../src/Job.ts"
import { JobQueue, JobQueueLive } from "../src/JobQueue.ts"
import { JobWorker } from "../src/JobWorker.ts"
import { PubSub, PubSubLive } from "../src/PubSub.ts"
import * as RateLimit from "../src/RateLimit.ts"
import { RateLimiter, RateLimiterLive } from "../src/RateLimiter.ts"
import { Redis } from "../src/Redis.ts"
import { RedisClient } from "../src/RedisClient.ts"
import * as RedisConfig from "../src/RedisConfig.ts"
import { certificates } from "./support/certificates.ts"
import { freePort } from "./support/freePort.ts"
import { failing, makeRecorder, secrets } from "./support/leaks.ts"
import { NodeProcess } from "./support/processes.ts"
import { RedisServer } from "./support/redisServer.ts"
import { sharedRedisUrl, uniqueNamespace } from "./support/sharedRedis.ts"

const { failure, password, payload, result, value } = secrets

const client = () => RedisClient.layer({ url: sharedRedisUrl(), namespace: uniqueNamespace() })

const Text = Schema.Struct({ text: Schema.String })
/** What another version of the program makes of it: it knows neither the values nor the keys. */
const Other = Schema.Record(Schema.String, Schema.Finite)

describe("Jobs", () => {
  it.live("show no payload and no result, and no failure but to who asks for it", () => {
    const recorder = makeRecorder()
    return Effect.gen(function*() {
      const queue = yield* JobQueue
      const fails = <A, E, R>(where: string, effect: Effect.Effect<A, E, R>) => failing(recorder, where, effect)
      const started = yield* Deferred.make<void>()
      const run = {
        payload: Text,
        success: Text,
        error: Schema.String,
        attempts: 2,
        backoff: { kind: "fixed", delay: 1 }
      } as const
      const make = (name: string, more: Job.JobDefaults & { readonly queue?: string } = {}) =>
        Job.make(name, { ...run, ...more })
      const works = make("works")
      const failed = make("fails")
      const dies = make("dies")
      const late = make("late", { timeout: "10 millis" })
      const hangs = make("hangs")
      const answersNonsense = make("answers nonsense")
      const failsWithNonsense = make("fails with nonsense")
      const unreadable = make("unreadable")
      const unknown = make("unknown", { queue: works.queue })
      const nonsense = { [result]: result } as unknown as { readonly text: string }
      const worker = yield* Layer.build(JobWorker.layer([
        works.handler(() => Effect.succeed({ text: result })),
        failed.handler(() => Effect.fail(failure)),
        dies.handler(() => Effect.die(new Error("a bug"))),
        late.handler(() => Effect.never),
        hangs.handler(() => Effect.andThen(Deferred.succeed(started, undefined), Effect.never)),
        answersNonsense.handler(() => Effect.succeed(nonsense)),
        failsWithNonsense.handler(() => Effect.fail({ [failure]: failure } as unknown as string)),
        Job.make(unreadable.name, { payload: Other }).handler(() => Effect.void)
      ], { shutdown: 100 }))
      const enqueue = (job: typeof works) =>
        queue.enqueue(job, { text: payload }, { tags: ["a tag"], tenant: "a tenant" })
      const end = <P, A, E>(job: Job.Job<string, P, A, E>, id: string) => queue.result(job, id, { within: "5 seconds" })

      const done = yield* enqueue(works)
      assert.deepStrictEqual(yield* end(works, done), { text: result })
      yield* fails("a result for others", end(Job.make(works.name, { payload: Text, success: Other }), done))
      const dead = yield* enqueue(failed)
      assert.strictEqual(yield* Effect.flip(end(failed, dead)), failure)
      for (const job of [dies, late, answersNonsense, failsWithNonsense, unreadable]) {
        yield* fails(job.name, end(job, yield* enqueue(job)))
      }
      const cancelled = yield* enqueue(hangs)
      yield* Deferred.await(started)
      yield* queue.cancel(hangs, cancelled)
      yield* fails("cancelled", end(hangs, cancelled))
      yield* fails("nobody does it", queue.result(unknown, yield* enqueue(unknown), { within: "100 millis" }))
      yield* fails("never enqueued", end(works, "nothing"))
      yield* fails("a bad payload", queue.enqueue(works, { text: 5, [payload]: payload } as never))
      yield* fails("bad ones", queue.enqueueAll(works, [{ text: payload }, { [payload]: payload } as never]))
      yield* fails("large ones", queue.enqueueAll(works, Array.from({ length: 1001 }, () => ({ text: payload }))))
      yield* Effect.scoped(Effect.gen(function*() {
        const taking = make("taking")
        yield* enqueue(taking)
        const [taken] = yield* queue.take(taking, 1)
        yield* fails("a bad result", taken!.complete(nonsense))
        yield* fails("a bad error", taken!.fail({ [failure]: failure } as never))
        yield* taken!.complete({ text: result })
        yield* fails("settled already", taken!.fail(failure))
      }))
      recorder.show("a worker", worker)
      recorder.show("a queue", queue)
      recorder.show("a job", works)
      recorder.show("counts", yield* queue.counts(works))
      assert.isAbove(recorder.count("log"), 10)
      assert.isAbove(recorder.spans(), 30)
      yield* recorder.assertNothing([payload, result])
      yield* recorder.assertNothing([failure], "log")
      yield* recorder.assertNothing([failure], "metrics")
    }).pipe(
      Effect.scoped,
      Effect.provide(JobQueueLive.pipe(Layer.provide(client()), Layer.provideMerge(recorder.layer)))
    )
  })
})

describe("Messages, locks and limits", () => {
  it.live("show no message, no guarded text and no owner", () => {
    const recorder = makeRecorder()
    return Effect.gen(function*() {
      const fails = <A, E, R>(where: string, effect: Effect.Effect<A, E, R>) => failing(recorder, where, effect)
      const pubsub = yield* PubSub
      const events = yield* pubsub.eventsScoped(Channel.make("c", Other))
      yield* pubsub.publish(Channel.make("c", Text), { text: value })
      recorder.show("undecodable", yield* Stream.runCollect(Stream.take(events, 1)))
      yield* fails("a bad message", pubsub.publish(Channel.make("c", Other), { [value]: value } as never))
      const slow = yield* pubsub.subscribeScoped(Channel.make("c", Text), { buffer: { size: 1, strategy: "fail" } })
      yield* pubsub.publishAll(Channel.make("c", Text), [{ text: value }, { text: value }, { text: value }])
      yield* fails("too slow", Stream.runDrain(Stream.drop(slow, 3)))

      const locks = yield* DistributedLock
      const redis = yield* RedisClient
      const lease = yield* locks.acquire("l")
      yield* fails("taken", Effect.scoped(locks.tryAcquire("l")))
      yield* fails("not in time", locks.withLock("l", { wait: "10 millis" })(Effect.void))
      yield* locks.guardedSet({ key: "l", token: lease.token + 1 }, "guarded", value)
      yield* fails("superseded", locks.guardedSet(lease, "guarded", value))
      yield* fails("half a pair", locks.guardedSet(lease, "guarded", `${value}\ud800`))
      yield* redis.use("unlink", (client) => client.unlink(redis.key("lock", "{l}")))
      yield* fails("lost", lease.extend())
      recorder.show("a lock service", locks)

      const limiter = yield* RateLimiter
      const once = RateLimit.fixedWindow({ name: "once", limit: 1, window: "1 hour" })
      yield* limiter.check(once, "s")
      yield* fails("limited", limiter.limit(once, "s")(Effect.void))
      yield* fails("above", limiter.check(once, "s", { cost: 2 }))
      yield* recorder.assertNothing([value, lease.holder])
    }).pipe(
      Effect.scoped,
      Effect.provide(
        Layer.mergeAll(PubSubLive, DistributedLockLive, RateLimiterLive).pipe(
          Layer.provideMerge(client()),
          Layer.provideMerge(recorder.layer)
        )
      )
    )
  })
})

describe("Services, clients, layers and settings", () => {
  it.live("show no password and no key, whoever looks at them", () =>
    Effect.gen(function*() {
      const recorder = makeRecorder()
      const certs = yield* certificates
      const server = yield* RedisServer.start({
        tls: { certs, clients: "required" },
        acl: ["default off", `app on >${password} ~* &* +@all`]
      })
      const url = `rediss://app:${password}@${server.host}:${server.tlsPort}`
      const read = (env: Readonly<Record<string, string>>) =>
        Effect.provide(
          RedisConfig.config,
          ConfigProvider.layer(ConfigProvider.fromUnknown({
            REDIS_TLS_CA: certs.ca,
            REDIS_TLS_CERT: certs.client.cert,
            REDIS_TLS_KEY: certs.client.key,
            ...env
          }))
        )
      const settings = yield* read({ REDIS_URL: url })
      recorder.show("settings", settings)
      recorder.show(
        "Sentinels' settings",
        yield* read({ REDIS_URL: `${url}?sentinel=main`, REDIS_SENTINEL_PASSWORD: password })
      )
      const redis = Redis.layer({ url, tls: { ...(settings.tls as RedisConfig.TlsSettings) } })
      const services = Layer.mergeAll(
        PubSubLive,
        JobQueueLive,
        DistributedLockLive,
        RateLimiterLive,
        HealthLive
      )
      const layer = Layer.provideMerge(services, redis)
      for (const each of [redis, services, layer, RedisClient.layer({ url, password: Redacted.make(password) })]) {
        recorder.show("a layer", each)
      }
      yield* Effect.gen(function*() {
        const context = yield* Effect.context<
          Redis | RedisClient | PubSub | JobQueue | DistributedLock | RateLimiter | Health
        >()
        recorder.show("all services", context)
        recorder.show("all services, as an exit", yield* Effect.exit(Effect.fail(context)))
        const redis = yield* RedisClient
        const service = [Redis, RedisClient, PubSub, JobQueue, DistributedLock, RateLimiter, Health] as const
        for (const tag of service) recorder.show("a service", yield* (tag as typeof RedisClient))
        recorder.show("a client", redis.raw)
        recorder.show("a client in a list", [{ client: redis.raw }])
        recorder.show("a duplicate", yield* redis.duplicate())
        recorder.show("a reserved connection", yield* redis.reserve)
        yield* redis.use("ping", (client) => {
          recorder.show("a client in use", client)
          return client.ping()
        })
        recorder.show("a subscription", yield* (yield* PubSub).subscribeScoped(Channel.make("c", Text)))
        recorder.show("health", yield* (yield* Health).check)
        recorder.show("states", yield* Stream.runHead(redis.states))
        yield* failing(recorder, "a service as a defect", Effect.die(redis))
        yield* failing(recorder, "a client as a cause", Effect.die(new Error("no", { cause: redis.raw })))
        yield* Effect.log(redis, redis.raw).pipe(Effect.annotateLogs({ redis: redis.raw }))
      }).pipe(Effect.provide(Layer.provideMerge(layer, recorder.layer)))
      // A private key takes several lines of base64, none of which is in the certificates.
      const lines = certs.client.key.split("\n").filter((line) => line !== "" && !line.startsWith("-----"))
      yield* recorder.assertNothing([password, ...lines])
    }).pipe(Effect.scoped))
})

describe("A program that fails", () => {
  it.live("prints nothing secret, and no warning", () =>
    Effect.gen(function*() {
      const port = yield* Effect.promise(freePort)
      const server = yield* RedisServer.start({ acl: ["default off", `app on >${password} ~* &* +@all`] })
      const right = `redis://app:${password}@${server.host}:${server.port}`
      const cases = [
        ["main", right, /unknown command/],
        ["rejects", right, /unknown command/],
        ["jobs", right, /Nothing is known of job none/],
        ["main", `redis://app:${secrets.wrongPassword}@${server.host}:${server.port}`, /WRONGPASS/],
        ["rejects", `redis://app:${secrets.wrongPassword}@${server.host}:${server.port}`, /WRONGPASS/],
        ["main", `redis://app:${password}@127.0.0.1:${port}`, /ECONNREFUSED/],
        ["rejects", `redis://app:${password}@127.0.0.1:${port}`, /ECONNREFUSED/],
        ["main", `redis://app:${password}@h?x=${secrets.queryPart}`, /REDIS_URL is malformed/]
      ] as const
      yield* Effect.forEach(cases, ([how, REDIS_URL, words]) =>
        Effect.gen(function*() {
          const program = yield* NodeProcess.start(new URL("./support/fixtures/failing.ts", import.meta.url), {
            args: [how, value, failure],
            env: { REDIS_URL }
          })
          assert.notStrictEqual((yield* program.exit).code, 0)
          assert.match(program.output, words)
          for (const secret of Object.values(secrets)) assert.notInclude(program.output, secret)
          assert.notMatch(program.output, /Warning/)
        }), { concurrency: 2 })
    }).pipe(Effect.scoped), 60_000)
})
