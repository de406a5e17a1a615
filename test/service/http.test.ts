/** The example service over HTTP, in memory. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Layer, Logger, Scope } from "effect"
import { JobQueue, ServicesMemory } from "effect-redis-kit"
import { mkdir, rmdir } from "node:fs/promises"
import { connect } from "node:net"
import { serveHere, serveInMemory } from "./inProcess.ts"
import {
  appointment,
  call,
  eventually,
  jobIn,
  mailsIn,
  post,
  seen,
  statusesOf,
  temporaryFolder,
  watchEvents,
  watchSocket
} from "./support.ts"

const fields = (body: any): Record<string, string> =>
  Object.fromEntries(body.errors.map(({ field, problem }: { field: string; problem: string }) => [field, problem]))

describe("posting an appointment", () => {
  it.live("answers 202 with the job's id, and the patient gets one mail", () =>
    Effect.gen(function*() {
      const { address, mails } = yield* serveInMemory()
      const reply = yield* post(address, { ...appointment, note: "Please bring your card" })
      assert.strictEqual(reply.status, 202)
      const { id } = reply.body
      assert.deepStrictEqual(reply.body, { id, tenant: "north", status: "queued" })
      assert.strictEqual(reply.headers.get("location"), `/jobs/${id}`)

      const job = yield* jobIn(address, id, "completed")
      assert.strictEqual(job.attempt, 1)
      assert.notInclude(JSON.stringify(job), "ada@")
      const [mail, ...more] = (yield* mailsIn(mails)).get(id) ?? []
      assert.isEmpty(more)
      assert.match(mail!, /^To: Ada Lovelace <ada@example\.com>\r$/m)
      assert.match(mail!, /^Subject: Your appointment on Tuesday,? 6 May 2031/m)
      for (const header of ["From", "Date", "Message-ID"]) assert.match(mail!, new RegExp(`^${header}: \\S`, "m"))
      assert.match(mail!, /\r\n\r\nDear Ada Lovelace,[^]*Please bring your card/)
    }))

  it.live("renders names of any script, and lets none of them become a header", () =>
    Effect.gen(function*() {
      const { address, mails } = yield* serveInMemory()
      const { body } = yield* post(address, { ...appointment, patientName: "Ægir <x@y.zz>, 雪" })
      yield* jobIn(address, body.id, "completed")
      const [mail] = (yield* mailsIn(mails)).get(body.id) ?? []
      assert.match(mail!, /^To: =\?UTF-8\?[^\r\n]*(?:\r\n [^\r\n]*)* ?<ada@example\.com>\r$/m)
      assert.notMatch(mail!, /^To:.*<x@y\.zz>/m)

      const smuggled = yield* post(address, { ...appointment, patientName: "Ada\r\nBcc: all@example.com" })
      assert.strictEqual(smuggled.status, 400)
    }))

  it.live("says of each field what is wrong with it", () =>
    Effect.gen(function*() {
      const { address } = yield* serveInMemory()
      const { body, headers, status } = yield* post(address, {
        tenant: "",
        patientName: 7,
        email: "nobody",
        at: "soon",
        note: "x".repeat(1001),
        delay: "a while",
        priority: 10
      })
      assert.strictEqual(status, 400)
      assert.match(headers.get("content-type") ?? "", /^application\/problem\+json/)
      assert.strictEqual(body.status, 400)
      assert.sameMembers(Object.keys(fields(body)), [
        "tenant",
        "patientId",
        "patientName",
        "email",
        "at",
        "note",
        "delay",
        "priority"
      ])
      assert.match(fields(body)["email"]!, /e-mail address/)
      assert.match(fields(body)["patientId"]!, /missing/i)
    }))

  it.live("answers 400 to what is no JSON, no object, nothing, or a delay out of range", () =>
    Effect.gen(function*() {
      const { address } = yield* serveInMemory()
      assert.match((yield* post(address, "{\"tenant\":")).body.detail, /not JSON/)
      const bodies = [
        "[]",
        "null",
        "",
        "7",
        ...["Infinity", "-1 seconds", "31 days"].map((delay) => JSON.stringify({ ...appointment, delay }))
      ]
      for (const body of bodies) {
        const reply = yield* post(address, body)
        assert.strictEqual(reply.status, 400, body)
        assert.isNotEmpty(reply.body.errors)
      }
      const key = yield* post(address, appointment, { "idempotency-key": "x".repeat(257) })
      assert.deepStrictEqual(Object.keys(fields(key.body)), ["idempotency-key"])
      const client = yield* post(address, appointment, { "x-client-id": "" })
      assert.deepStrictEqual(Object.keys(fields(client.body)), ["x-client-id"])
    }))

  it.live("answers 413 to a body above the limit, whether it says so or not", () =>
    Effect.gen(function*() {
      const { address } = yield* serveInMemory({ BODY_LIMIT: "1 KiB" })
      const large = JSON.stringify({ ...appointment, note: "x".repeat(20_000) })
      assert.strictEqual((yield* post(address, large)).status, 413)
      const chunked = yield* call(`${address}/appointments`, {
        method: "POST",
        body: new Blob([large]).stream(),
        duplex: "half"
      })
      assert.strictEqual(chunked.status, 413)
      assert.strictEqual((yield* post(address)).status, 202)
    }))

  it.live("answers 429 above 100 a minute to a client, with the standard headers, and to no other", () =>
    Effect.gen(function*() {
      const { address } = yield* serveInMemory()
      const replies = yield* Effect.forEach(
        Array.from({ length: 101 }, (_, i) => i),
        () => post(address, appointment, { "x-client-id": "a" }),
        { concurrency: 20 }
      )
      const denied = replies.filter(({ status }) => status === 429)
      assert.strictEqual(denied.length, 1)
      assert.strictEqual(replies.filter(({ status }) => status === 202).length, 100)
      const { body, headers } = denied[0]!
      assert.strictEqual(body.title, "Too many requests")
      assert.strictEqual(headers.get("ratelimit-limit"), "100")
      assert.strictEqual(headers.get("ratelimit-remaining"), "0")
      for (const header of ["retry-after", "ratelimit-reset"]) {
        const seconds = Number(headers.get(header))
        assert.isTrue(seconds > 50 && seconds <= 60, `${header}: ${seconds}`)
      }
      const other = yield* post(address, appointment, { "x-client-id": "b" })
      assert.strictEqual(other.headers.get("ratelimit-remaining"), "99")
      // Without an id, it is the address that counts; a client cannot take its quota by its name.
      assert.strictEqual((yield* post(address)).headers.get("ratelimit-remaining"), "99")
      assert.strictEqual((yield* post(address, {})).headers.get("ratelimit-remaining"), "98")
      const named = yield* post(address, appointment, { "x-client-id": "address 127.0.0.1" })
      assert.strictEqual(named.headers.get("ratelimit-remaining"), "99")
    }))

  it.live("makes one job of a request that is repeated with its Idempotency-Key", () =>
    Effect.gen(function*() {
      const { address, mails } = yield* serveInMemory()
      const mine = { "x-client-id": "a", "idempotency-key": "k 1" }
      const replies = yield* Effect.forEach([1, 2, 3, 4, 5], () => post(address, appointment, mine), {
        concurrency: "unbounded"
      })
      const { id } = replies[0]!.body
      for (const reply of replies) {
        assert.strictEqual(reply.status, 202)
        assert.strictEqual(reply.text, replies[0]!.text)
        assert.strictEqual(reply.headers.get("location"), `/jobs/${id}`)
      }
      yield* jobIn(address, id, "completed")
      assert.strictEqual((yield* post(address, appointment, mine)).text, replies[0]!.text)

      const others = yield* Effect.forEach(
        [{ ...mine, "idempotency-key": "k 2" }, { ...mine, "x-client-id": "b" }],
        (headers) => post(address, appointment, headers)
      )
      for (const { body } of others) yield* jobIn(address, body.id, "completed")
      assert.strictEqual(new Set([id, ...others.map(({ body }) => body.id)]).size, 3)
      assert.deepStrictEqual(Array.from((yield* mailsIn(mails)).values(), ({ length }) => length), [1, 1, 1])
      assert.strictEqual((yield* call(`${address}/queue`)).body.finished, 3)

      const another = yield* post(address, { ...appointment, patientId: "p-2" }, mine)
      assert.strictEqual(another.status, 422)
    }))

  it.live("holds a message back for its delay, and sends by priority", () =>
    Effect.gen(function*() {
      const { address } = yield* serveInMemory({ CONCURRENCY: "1" })
      const later = yield* post(address, { ...appointment, delay: "1 hour" })
      const job = (yield* call(`${address}/jobs/${later.body.id}`)).body
      assert.strictEqual(job.status, "queued")
      assert.closeTo(Date.parse(job.dueAt) - Date.parse(job.enqueuedAt), 3_600_000, 1000)
      assert.strictEqual((yield* call(`${address}/queue`)).body.delayed, 1)

      const watch = yield* watchEvents(address, "north")
      yield* call(`${address}/queue/pause`, { method: "POST" })
      const ids: Array<string> = []
      for (const [i, priority] of [9, 0, 5].entries()) {
        ids.push((yield* post(address, { ...appointment, patientId: `p-${i}`, priority })).body.id)
      }
      yield* call(`${address}/queue/resume`, { method: "POST" })
      for (const id of ids) yield* seen(watch, id, "completed")
      const started = watch.notices.filter(({ data }) => data?.status === "active").map(({ data }) => data.jobId)
      assert.deepStrictEqual(started, [ids[1], ids[2], ids[0]])
    }))
})

describe("a job over HTTP", () => {
  it.live("is unknown: 404, as is an address that nothing is at", () =>
    Effect.gen(function*() {
      const { address } = yield* serveInMemory()
      for (const method of ["GET", "DELETE"]) {
        const { body, status } = yield* call(`${address}/jobs/nobody`, { method })
        assert.strictEqual(status, 404)
        assert.strictEqual(body.title, "Unknown job")
      }
      assert.strictEqual((yield* call(`${address}/nowhere`)).body.title, "Not found")
      assert.strictEqual((yield* call(`${address}/appointments`)).status, 404)
    }))

  it.live("is cancelled before it runs, and not twice", () =>
    Effect.gen(function*() {
      const { address, mails } = yield* serveInMemory()
      const watch = yield* watchEvents(address, "north")
      const { body: { id } } = yield* post(address, { ...appointment, delay: "300 millis" })
      const first = yield* call(`${address}/jobs/${id}`, { method: "DELETE" })
      assert.strictEqual(first.status, 200)
      assert.deepStrictEqual(first.body, { id, status: "cancelled" })
      assert.strictEqual((yield* call(`${address}/jobs/${id}`)).body.status, "cancelled")
      const second = yield* call(`${address}/jobs/${id}`, { method: "DELETE" })
      assert.strictEqual(second.status, 409)
      assert.deepStrictEqual(yield* seen(watch, id, "cancelled"), ["queued", "cancelled"])
      assert.strictEqual((yield* mailsIn(mails)).size, 0)
    }))
})

describe("the queue over HTTP", () => {
  it.live("is paused and resumed, and counted", () =>
    Effect.gen(function*() {
      const { address } = yield* serveInMemory()
      assert.deepStrictEqual((yield* call(`${address}/queue/pause`, { method: "POST" })).body, { paused: true })
      const { body: { id } } = yield* post(address)
      const { body: counts } = yield* call(`${address}/queue`)
      assert.strictEqual(counts.paused, true)
      assert.strictEqual(counts.waiting, 1)
      assert.isAtLeast(counts.oldestWaitingMillis, 0)
      assert.strictEqual((yield* call(`${address}/jobs/${id}`)).body.status, "queued")
      assert.deepStrictEqual((yield* call(`${address}/queue/resume`, { method: "POST" })).body, { paused: false })
      yield* jobIn(address, id, "completed")
      assert.strictEqual((yield* call(`${address}/queue`)).body.waiting, 0)
    }))

  it.live("keeps what cannot be sent as dead letters, and sends them when they are replayed", () =>
    Effect.gen(function*() {
      const mails = yield* temporaryFolder
      const folder = `${mails}/later`
      const address = yield* serveHere(
        { MAIL_DIR: folder, NOTIFY_ATTEMPTS: "2", NOTIFY_BACKOFF: "20 millis" },
        ServicesMemory
      )
      const watch = yield* watchEvents(address, "north")
      // The folder is gone, so the mailer fails.
      yield* Effect.promise(() => rmdir(folder))
      const ids: Array<string> = []
      for (const patientId of ["p-1", "p-2", "p-3"]) {
        ids.push((yield* post(address, { ...appointment, patientId })).body.id)
      }
      for (const id of ids) {
        const failed = yield* jobIn(address, id, "failed")
        assert.strictEqual(failed.attempt, 2)
        assert.deepStrictEqual(failed.failure, { reason: "error", detail: "NotifyFailed: mailer: ENOENT" })
        yield* seen(watch, id, "failed")
        assert.deepStrictEqual(statusesOf(watch, id), ["queued", "active", "retrying", "active", "failed"])
      }
      const page = (yield* call(`${address}/queue/dead-letters?limit=2`)).body
      assert.strictEqual(page.jobs.length, 2)
      const rest = (yield* call(`${address}/queue/dead-letters?cursor=${encodeURIComponent(page.next)}`)).body
      assert.sameMembers([...page.jobs, ...rest.jobs].map(({ id }: { id: string }) => id), ids)
      assert.strictEqual((yield* call(`${address}/queue/dead-letters?limit=0`)).status, 400)

      yield* Effect.promise(() => mkdir(folder))
      const one = yield* call(`${address}/queue/dead-letters/${ids[0]}/replay`, { method: "POST" })
      assert.deepStrictEqual(one.body, { replayed: 1 })
      yield* jobIn(address, ids[0]!, "completed")
      assert.strictEqual(
        (yield* call(`${address}/queue/dead-letters/${ids[0]}/replay`, { method: "POST" })).status,
        404
      )
      const all = yield* call(`${address}/queue/dead-letters/replay`, { method: "POST" })
      assert.deepStrictEqual(all.body, { replayed: 2 })
      for (const id of ids) yield* jobIn(address, id, "completed")
      assert.deepStrictEqual(Array.from((yield* mailsIn(folder)).values(), ({ length }) => length), [1, 1, 1])
    }))
})

describe("watching", () => {
  it.live("shows each tenant its own jobs, in order, over both transports", () =>
    Effect.gen(function*() {
      const { address } = yield* serveInMemory()
      const tenants = ["north", "süd & *"]
      const watches = yield* Effect.forEach(tenants, (tenant) => watchEvents(address, tenant))
      const sockets = yield* Effect.forEach(tenants, (tenant) => watchSocket(address, tenant))
      for (const [i, tenant] of tenants.entries()) {
        const { body: { id } } = yield* post(address, { ...appointment, tenant })
        for (const watch of [watches[i]!, sockets[i]!]) {
          assert.deepStrictEqual(yield* seen(watch, id, "completed"), ["queued", "active", "completed"])
        }
      }
      for (const [i, tenant] of tenants.entries()) {
        for (const { notices } of [watches[i]!, sockets[i]!]) {
          const statuses = notices.filter(({ event }) => event === "status")
          assert.strictEqual(statuses.length, 3)
          for (const { data } of statuses) {
            assert.strictEqual(data.tenant, tenant)
            assert.closeTo(data.at, Date.now(), 60_000)
          }
        }
      }
    }))

  it.live("shows that it lives while nothing happens", () =>
    Effect.gen(function*() {
      const { address } = yield* serveInMemory({ HEARTBEAT: "50 millis" })
      const events = yield* watchEvents(address, "north")
      const socket = yield* watchSocket(address, "north")
      yield* eventually(
        "Heartbeats",
        Effect.sync(() =>
          events.notices.filter(({ data }) => data === ": heartbeat").length > 1 &&
            socket.notices.filter(({ event }) => event === "heartbeat").length > 1
            ? true
            : undefined
        )
      )
    }))

  it.live("needs a tenant, and a WebSocket where there is one", () =>
    Effect.gen(function*() {
      const { address } = yield* serveInMemory()
      for (const path of ["/events", "/events?tenant=", "/events?tenant=a&tenant=b"]) {
        const { body, status } = yield* call(address + path)
        assert.strictEqual(status, 400)
        assert.property(fields(body), "tenant")
      }
      assert.strictEqual((yield* call(`${address}/ws?tenant=north`)).status, 426)
    }))

  it.live("ends when the service does, which nobody can hold up", () =>
    Effect.gen(function*() {
      const running = yield* Scope.make()
      const { address } = yield* Scope.provide(serveInMemory(), running)
      const events = yield* watchEvents(address, "north")
      const socket = yield* watchSocket(address, "north")
      // Says nothing, ever.
      const silent = yield* Effect.acquireRelease(
        Effect.sync(() => connect(Number(new URL(address).port), "127.0.0.1").on("error", () => {}).resume()),
        (silent) => Effect.sync(() => silent.destroy())
      )
      yield* eventually("A connection", Effect.sync(() => silent.readyState === "open" ? true : undefined))
      yield* Effect.timeout(Scope.close(running, Exit.void), "5 seconds")
      yield* eventually(
        "The end",
        Effect.sync(() => events.hasEnded() && socket.hasEnded() && silent.closed ? true : undefined)
      )
      assert.strictEqual(socket.closeCode(), 1001)
    }))
})

describe("the service", () => {
  it.live("answers for its health", () =>
    Effect.gen(function*() {
      const { address } = yield* serveInMemory()
      for (const [path, status] of [["redis", "healthy"], ["live", "alive"], ["ready", "ready"]]) {
        const reply = yield* call(`${address}/health/${path}`)
        assert.strictEqual(reply.status, 200)
        assert.strictEqual(reply.body.status, status)
      }
    }))

  it.live("tells nothing of its inside when it has a bug", () =>
    Effect.gen(function*() {
      const buggy = Layer.provideMerge(
        Layer.effect(
          JobQueue,
          Effect.map(JobQueue, (queue) =>
            // The worker knows the real queue by its engine, so what is changed is the one that is there.
            Object.assign(queue, { get: () => Effect.die(new Error("secret at /srv/app.ts:1")) }))
        ),
        ServicesMemory
      )
      const mails = yield* temporaryFolder
      const logged: Array<string> = []
      const log = Logger.layer([Logger.map(Logger.formatSimple, (line) => logged.push(line))])
      const address = yield* Effect.provide(serveHere({ MAIL_DIR: mails }, buggy), log)
      const { body, status, text } = yield* call(`${address}/jobs/1`)
      assert.strictEqual(status, 500)
      assert.strictEqual(body.title, "Internal error")
      assert.notMatch(text, /secret|srv|at /)
      assert.match(logged.join("\n"), /unforeseen[^]*secret at/)
    }))
})
