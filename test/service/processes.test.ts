/** The example service in several processes on one Redis. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { RedisServer } from "../support/redisServer.ts"
import { sharedRedisUrl, uniqueNamespace } from "../support/sharedRedis.ts"
import {
  appointment,
  call,
  eventually,
  jobIn,
  launch,
  mailServer,
  mailsIn,
  post,
  seen,
  start,
  statusesOf,
  temporaryFolder,
  watchEvents,
  watchSocket
} from "./support.ts"

/** Settings that make processes one service. */
const together = () => ({ REDIS_URL: sharedRedisUrl(), SERVICE_NAME: uniqueNamespace() })

const seconds = (count: number) => ({ timeout: count * 1000 })

describe("the service in several processes", () => {
  it.live("takes a request in one, sends in another, and tells of it in a third", () =>
    Effect.gen(function*() {
      const folder = yield* temporaryFolder
      const redis = together()
      const [one, two, work] = yield* Effect.all([
        start({ ...redis, ROLE: "api" }),
        start({ ...redis, ROLE: "api" }),
        start({ ...redis, ROLE: "worker", MAIL_DIR: folder })
      ], { concurrency: "unbounded" })
      assert.include(one.process.output, "Engine: Redis")
      assert.include(work.process.output, `files in ${folder}`)
      assert.strictEqual(work.address, "")

      const watches = yield* Effect.all([
        watchEvents(one.address, "north"),
        watchEvents(two.address, "north"),
        watchSocket(two.address, "north"),
        watchEvents(two.address, "south")
      ])
      const { body: { id } } = yield* post(one.address)
      const other = (yield* post(two.address, { ...appointment, tenant: "south" })).body.id
      for (const watch of watches.slice(0, 3)) yield* seen(watch, id, "completed")
      yield* seen(watches[3], other, "completed")
      // Each transition once, although both APIs read the queue's events.
      for (const watch of watches.slice(0, 3)) {
        assert.deepStrictEqual(statusesOf(watch, id), ["queued", "active", "completed"])
        assert.deepStrictEqual(statusesOf(watch, other), [])
      }
      assert.strictEqual((yield* call(`${two.address}/jobs/${id}`)).body.status, "completed")
      assert.sameMembers(Array.from((yield* mailsIn(folder)).keys()), [id, other])
      // A repeated request is one job, whichever process it comes to.
      const mine = { "x-client-id": "a", "idempotency-key": "k" }
      const replies = yield* Effect.forEach(
        [one, two, one, two],
        ({ address }) => post(address, appointment, mine),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(new Set(replies.map(({ text }) => text)).size, 1)
    }), seconds(40))

  it.live(
    "cancels a job that runs in another one, within a second, before its mail is sent",
    () =>
      Effect.gen(function*() {
        const mails = yield* mailServer({ hold: true })
        const redis = together()
        const [{ address }] = yield* Effect.all([
          start({ ...redis, ROLE: "api" }),
          start({ ...redis, ROLE: "worker", SMTP_URL: mails.url })
        ], { concurrency: "unbounded" })
        const watch = yield* watchEvents(address, "north")
        const { body: { id } } = yield* post(address)
        yield* eventually("A recipient", Effect.sync(() => mails.asked() === 1 ? true : undefined))
        assert.strictEqual((yield* call(`${address}/jobs/${id}`)).body.status, "active")
        assert.strictEqual((yield* call(`${address}/jobs/${id}`, { method: "DELETE" })).status, 202)
        yield* seen(watch, id, "cancelled", 1000)
        mails.letGo()
        const next = (yield* post(address, { ...appointment, email: "next@example.com" })).body.id
        yield* jobIn(address, next, "completed")
        assert.deepStrictEqual(mails.mails.map(({ to }) => to), [["next@example.com"]])
      }),
    seconds(40)
  )

  it.live(
    "goes on telling when the process that publishes is killed: nothing is lost, nothing comes twice",
    () =>
      Effect.gen(function*() {
        const folder = yield* temporaryFolder
        const redis = together()
        // The first one publishes.
        const first = yield* start({ ...redis, ROLE: "api" })
        const second = yield* start({ ...redis, ROLE: "api" })
        yield* start({ ...redis, ROLE: "worker", MAIL_DIR: folder })
        const watch = yield* watchEvents(second.address, "north")
        const ids: Array<string> = []
        for (let i = 0; i < 40; i++) {
          if (i === 20) yield* first.process.kill()
          ids.push((yield* post(second.address, { ...appointment, patientId: `p-${i}` })).body.id)
        }
        for (const id of ids) yield* seen(watch, id, "completed")
        for (const id of ids) assert.deepStrictEqual(statusesOf(watch, id), ["queued", "active", "completed"])
      }),
    seconds(40)
  )

  it.live(
    "stops within 10 seconds of SIGTERM: what runs goes back, and is done elsewhere",
    () =>
      Effect.gen(function*() {
        const mails = yield* mailServer({ hold: true })
        const redis = together()
        const both = yield* start({ ...redis, SMTP_URL: mails.url })
        const watch = yield* watchEvents(both.address, "north")
        yield* watchSocket(both.address, "north")
        const { body: { id } } = yield* post(both.address)
        yield* eventually("A recipient", Effect.sync(() => mails.asked() === 1 ? true : undefined))
        const ended = yield* both.process.kill("SIGTERM")
        assert.deepStrictEqual(ended, { code: 0, signal: null })
        assert.isTrue(watch.hasEnded())

        mails.letGo()
        const next = yield* start({ ...redis, SMTP_URL: mails.url })
        assert.strictEqual((yield* jobIn(next.address, id, "completed")).attempt, 1)
        assert.strictEqual(mails.mails.length, 1)
        assert.deepStrictEqual(yield* next.process.kill("SIGINT"), { code: 0, signal: null })
      }),
    seconds(60)
  )

  it.live(
    "listens to a tenant for as long as somebody watches it",
    () =>
      Effect.gen(function*() {
        const server = yield* RedisServer.start()
        const { address } = yield* start({ REDIS_URL: server.url, SERVICE_NAME: "watched", ROLE: "api" })
        const channels = Effect.map(server.cli("PUBSUB", "CHANNELS", "*:status%3Anorth"), (found) =>
          Array.isArray(found) ? found.length : -1)
        const untilThere = (count: number) =>
          eventually(
            `${count} channels`,
            Effect.map(channels, (found) =>
              found === count ? true : undefined)
          )
        yield* Effect.scoped(Effect.gen(function*() {
          yield* watchEvents(address, "north")
          yield* watchSocket(address, "north")
          yield* untilThere(1)
        }))
        yield* untilThere(0)
        assert.strictEqual((yield* call(`${address}/health/live`)).status, 200)
      }),
    seconds(30)
  )

  it.live(
    "answers 503 while Redis is away, without a word of where it was, and works again when it is back",
    () =>
      Effect.gen(function*() {
        const folder = yield* temporaryFolder
        const server = yield* RedisServer.start({ password: "hunter2", persistence: "aof-always" })
        const { address } = yield* start({
          REDIS_URL: server.url,
          REDIS_COMMAND_TIMEOUT: "500ms",
          SERVICE_NAME: "away",
          MAIL_DIR: folder
        })
        const watch = yield* watchEvents(address, "north")
        const delayed = (yield* post(address, { ...appointment, delay: "1 second" })).body.id
        yield* server.kill()
        const requests = [
          post(address),
          call(`${address}/jobs/1`),
          call(`${address}/jobs/1`, { method: "DELETE" }),
          call(`${address}/queue`),
          call(`${address}/queue/dead-letters`),
          call(`${address}/health/redis`),
          call(`${address}/health/ready`)
        ]
        for (const reply of yield* Effect.all(requests, { concurrency: "unbounded" })) {
          assert.strictEqual(reply.status, 503)
          assert.notMatch(reply.text, /hunter2|127\.0\.0\.1|at \S+:\d+/)
        }
        assert.strictEqual((yield* call(`${address}/health/live`)).status, 200)

        yield* server.restart
        yield* eventually(
          "Readiness",
          Effect.map(call(`${address}/health/ready`), ({ status }) => status === 200 ? true : undefined)
        )
        const { body: { id } } = yield* post(address)
        for (const job of [delayed, id]) yield* jobIn(address, job, "completed")
        assert.isTrue(watch.notices.some(({ data, event }) => event === "missed" && data.reason === "connection"))
        yield* seen(watch, id, "completed")
      }),
    seconds(40)
  )
})

describe("starting", () => {
  const failing = (environment: Record<string, string>) =>
    Effect.gen(function*() {
      const process = yield* launch(environment)
      const { code } = yield* process.exit
      assert.strictEqual(code, 1)
      assert.notMatch(process.output, /^\s+at /m)
      return process.output
    })

  it.live("fails with what is wrong, and nothing else", () =>
    Effect.gen(function*() {
      assert.match(yield* failing({ ROLE: "api" }), /ROLE=api .* needs Redis: set REDIS_URL/)
      assert.match(yield* failing({ ROLE: "worker" }), /ROLE=worker/)
      assert.match(yield* failing({ ROLE: "boss" }), /Expected "both" .* at \["ROLE"\]/)
      assert.match(yield* failing({ PORT: "99999" }), /PORT is out of range/)
      assert.match(yield* failing({ SMTP_URL: "http://me:hunter2@host" }), /SMTP_URL is malformed(?![^]*hunter2)/)
      assert.match(yield* failing({ SMTP_URL: "smtp://me:hunter2@host:99999" }), /SMTP_URL is malformed(?![^]*hunter2)/)
      assert.match(yield* failing({ HEARTBEAT: "0 millis" }), /HEARTBEAT is out of range: expected 10ms to 1h/)
      assert.match(yield* failing({ APPOINTMENT_TTL: "Infinity" }), /APPOINTMENT_TTL is out of range/)
      assert.match(yield* failing({ NOTIFY_BACKOFF: "-1 second" }), /NOTIFY_BACKOFF is out of range/)
      assert.match(yield* failing({ REDIS_URL: "redis//hunter2" }), /REDIS_URL is malformed(?![^]*hunter2)/)
      assert.match(yield* failing({ REDIS_URL: "redis://127.0.0.1:1" }), /Redis could not/)
      const { address } = yield* start({})
      assert.match(yield* failing({ PORT: new URL(address).port }), /cannot listen: .*EADDRINUSE/)
    }), seconds(60))
})
