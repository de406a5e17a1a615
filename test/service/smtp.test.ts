/** The example service's mails, at a real SMTP server. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { ServicesMemory } from "effect-redis-kit"
import { freePort } from "../support/freePort.ts"
import { serveHere } from "./inProcess.ts"
import { appointment, call, eventually, jobIn, mailServer, post, seen, statusesOf, watchEvents } from "./support.ts"

const quick = { NOTIFY_ATTEMPTS: "3", NOTIFY_BACKOFF: "20 millis" }

describe("mails over SMTP", () => {
  it.live("reach the server with the posted address, as recipient and in the header", () =>
    Effect.gen(function*() {
      const server = yield* mailServer()
      const address = yield* serveHere(
        { SMTP_URL: server.url, MAIL_FROM: "Ward 3 <ward3@clinic.example>" },
        ServicesMemory
      )
      const { body: { id } } = yield* post(address, { ...appointment, email: "grace@example.org" })
      yield* jobIn(address, id, "completed")
      assert.strictEqual(server.mails.length, 1)
      const { source, to } = server.mails[0]!
      assert.deepStrictEqual(to, ["grace@example.org"])
      assert.match(source, /^To: Ada Lovelace <grace@example\.org>\r$/m)
      assert.match(source, /^From: Ward 3 <ward3@clinic\.example>\r$/m)
      assert.include(source, `Message-ID: <${id}@clinic.example>`)
    }))

  it.live("are tried again when the server refuses them, and end as dead letters without the address", () =>
    Effect.gen(function*() {
      let refuses = true
      const server = yield* mailServer({ refuse: () => refuses })
      const address = yield* serveHere({ SMTP_URL: server.url, ...quick }, ServicesMemory)
      const watch = yield* watchEvents(address, "north")
      const { body: { id } } = yield* post(address)
      const failed = yield* jobIn(address, id, "failed")
      assert.deepStrictEqual(failed.failure, { reason: "error", detail: "NotifyFailed: mailer: EENVELOPE 550" })
      yield* seen(watch, id, "failed")
      assert.deepStrictEqual(
        statusesOf(watch, id),
        ["queued", "active", "retrying", "active", "retrying", "active", "failed"]
      )
      assert.notInclude((yield* call(`${address}/queue/dead-letters`)).text, "ada")

      refuses = false
      yield* call(`${address}/queue/dead-letters/replay`, { method: "POST" })
      yield* jobIn(address, id, "completed")
      assert.strictEqual(server.mails.length, 1)
    }))

  it.live("fail when nobody listens there, and give no credential away", () =>
    Effect.gen(function*() {
      const port = yield* Effect.promise(freePort)
      const address = yield* serveHere({ SMTP_URL: `smtp://me:hunter2@127.0.0.1:${port}`, ...quick }, ServicesMemory)
      const { body: { id } } = yield* post(address)
      const failed = yield* jobIn(address, id, "failed")
      assert.match(failed.failure.detail, /mailer: E\w+$/)
      assert.notInclude((yield* call(`${address}/queue/dead-letters`)).text, "hunter2")
    }))

  it.live("are not sent when the job is cancelled before the server has taken them", () =>
    Effect.gen(function*() {
      const server = yield* mailServer({ hold: true })
      const address = yield* serveHere({ SMTP_URL: server.url }, ServicesMemory)
      const { body: { id } } = yield* post(address)
      yield* eventually("A recipient", Effect.sync(() => server.asked() === 1 ? true : undefined))
      assert.strictEqual((yield* call(`${address}/jobs/${id}`, { method: "DELETE" })).status, 202)
      yield* jobIn(address, id, "cancelled")
      server.letGo()
      // The next one goes the same way, so the first had its time.
      const { body: next } = yield* post(address, { ...appointment, email: "next@example.com" })
      yield* jobIn(address, next.id, "completed")
      assert.deepStrictEqual(server.mails.map(({ to }) => to), [["next@example.com"]])
    }))

  it.live("go to one patient one at a time, and those who wait hold no worker and use no attempt", () =>
    Effect.gen(function*() {
      const server = yield* mailServer({ hold: true })
      const address = yield* serveHere({ SMTP_URL: server.url, CONCURRENCY: "2" }, ServicesMemory)
      const watch = yield* watchEvents(address, "north")
      const first = (yield* post(address)).body.id
      yield* eventually("A recipient", Effect.sync(() => server.asked() === 1 ? true : undefined))
      const second = (yield* post(address)).body.id
      const other = (yield* post(address, { ...appointment, patientId: "p-2" })).body.id
      // The second waits a second for its patient's turn, goes back, and the other one takes its place.
      yield* eventually("Another recipient", Effect.sync(() => server.asked() === 2 ? true : undefined))
      assert.deepStrictEqual(statusesOf(watch, second).slice(0, 3), ["queued", "active", "queued"])
      server.letGo()
      for (const id of [first, second, other]) {
        assert.strictEqual((yield* jobIn(address, id, "completed")).attempt, 1)
      }
      assert.strictEqual(server.mails.length, 3)
    }))
})
