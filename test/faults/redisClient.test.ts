/** The connection under faults: what ran, what did not, and that nothing hangs. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, Redacted, Result, Schema, Scope, Stream } from "effect"
import { createServer } from "node:net"
import { inspect } from "node:util"
import { type ConnectionState, RedisClient } from "../../src/RedisClient.ts"
import type { RedisSettings } from "../../src/RedisConfig.ts"
import type { RedisError } from "../../src/RedisError.ts"
import * as RedisScript from "../../src/RedisScript.ts"
import { certificates } from "../support/certificates.ts"
import { freePort } from "../support/freePort.ts"
import { Proxy } from "../support/proxy.ts"
import { RedisServer, type RedisServerOptions } from "../support/redisServer.ts"

const marker = "s3cr3t-marker"

/** A server, a proxy before it, and a client that only knows the proxy. */
const proxied = (settings: RedisSettings = {}, options?: RedisServerOptions) =>
  Effect.gen(function*() {
    const server = yield* RedisServer.start(options)
    const proxy = yield* Proxy.start(server)
    const client = yield* build({ url: proxy.url, ...settings })
    return { server, proxy, client }
  })

const build = (settings: RedisSettings) =>
  Effect.flatMap(Layer.build(RedisClient.layer(settings)), (context) => Effect.provide(RedisClient, context))

const refusal = (settings: RedisSettings): Effect.Effect<RedisError, RedisClient["Service"]> =>
  Effect.flip(Effect.scoped(build(settings)))

const incr = ({ use }: RedisClient["Service"], key = "n") => use("incr", (client) => client.incr(key))

const get = ({ use }: RedisClient["Service"], key = "n") =>
  use("get", (client) => client.get(key), { repeatable: true })

const until = (check: Effect.Effect<boolean>) =>
  Effect.repeat(Effect.delay(check, "2 millis"), { until: (done) => done })

const stateOf = ({ states }: RedisClient["Service"]): Effect.Effect<ConnectionState> =>
  Effect.map(Stream.runCollect(Stream.take(states, 1)), ([state]) => state!)

describe("A command whose connection breaks", () => {
  it.live("has run once, and fails as unknown, when its reply is lost", () =>
    Effect.gen(function*() {
      const { client, proxy, server } = yield* proxied()
      yield* proxy.dropNextReply("incr")
      const error = yield* Effect.flip(incr(client))
      assert.deepInclude(error, { command: "incr", reason: "connection", outcome: "Unknown" })
      assert.strictEqual(yield* server.cli("GET", "n"), "1")
      // The next one finds a new connection, and nothing was repeated on it.
      assert.strictEqual(yield* incr(client), 2)
    }).pipe(Effect.scoped))

  it.live("is sent again when it may be", () =>
    Effect.gen(function*() {
      const { client, proxy, server } = yield* proxied()
      yield* server.cli("SET", "n", "1")
      yield* proxy.dropNextReply("get")
      assert.strictEqual(yield* get(client), "1")
      assert.strictEqual(proxy.accepted, 2)
    }).pipe(Effect.scoped))

  it.live("is never sent again when a function sends it later", () =>
    Effect.gen(function*() {
      const { client, proxy, server } = yield* proxied()
      let runs = 0
      yield* proxy.dropNextReply("incr")
      const later = client.use("later", async (raw) => {
        runs++
        await Promise.resolve()
        await raw.get("n")
        return raw.incr("n")
      })
      assert.deepInclude(yield* Effect.flip(later), { outcome: "Unknown" })
      assert.strictEqual(runs, 1)
      assert.strictEqual(yield* server.cli("GET", "n"), "1")
    }).pipe(Effect.scoped))

  it.live("is never sent again when a function was refused first, and went on", () =>
    Effect.gen(function*() {
      const { client, proxy, server } = yield* proxied()
      let runs = 0
      yield* proxy.dropNextReply("incr")
      // The socket is closed for writing, but nobody has noticed yet.
      client.raw.disconnect(true)
      const odd = client.use("odd", async (raw) => {
        runs++
        const refused = await raw.get("n").then(() => false, () => true)
        assert.isTrue(refused)
        await new Promise((resolve) => raw.once("close", resolve))
        await new Promise((resolve) => raw.once("ready", resolve))
        return raw.incr("n")
      })
      assert.deepInclude(yield* Effect.flip(odd), { reason: "connection", outcome: "Unknown" })
      assert.strictEqual(runs, 1)
      assert.strictEqual(yield* server.cli("GET", "n"), "1")
    }).pipe(Effect.scoped))

  it.live("is sent again when it was never written", () =>
    Effect.gen(function*() {
      const { client } = yield* proxied()
      client.raw.disconnect(true)
      assert.strictEqual(yield* incr(client), 1)
    }).pipe(Effect.scoped))

  it.live("tells of a pipeline what ran, and what may have", () =>
    Effect.gen(function*() {
      const { client, proxy, server } = yield* proxied()
      yield* incr(client)
      const one = ":2\r\n".length
      yield* proxy.cutAfterBytes(2 * one, "replies")
      const results = yield* client.pipeline((commands) => commands.incr("n").incr("n").incr("n"))
      assert.deepStrictEqual(
        results.map((result) => Result.isSuccess(result) ? result.success : result.failure.outcome),
        [2, 3, "Unknown"]
      )
      assert.strictEqual(yield* server.cli("GET", "n"), "4")
      yield* get(client)
      yield* proxy.dropNextReply("incr")
      const lost = yield* Effect.flip(client.pipeline((commands) => commands.incr("n").incr("n")))
      assert.deepInclude(lost, { command: "pipeline", outcome: "Unknown" })
      assert.strictEqual(yield* server.cli("GET", "n"), "6")
      client.raw.disconnect(true)
      assert.deepStrictEqual(yield* client.pipeline((commands) => commands.incr("n")), [Result.succeed(7)])
    }).pipe(Effect.scoped))

  it.live("tells of a transaction that it may have run", () =>
    Effect.gen(function*() {
      const { client, proxy, server } = yield* proxied()
      yield* proxy.dropNextReply("exec")
      const lost = yield* Effect.flip(client.multi((commands) => commands.incr("n").incr("n")))
      assert.deepInclude(lost, { command: "multi", outcome: "Unknown" })
      assert.strictEqual(yield* server.cli("GET", "n"), "2")
      yield* get(client)
      // Cut before EXEC is complete: none of it runs.
      yield* proxy.cutAfterBytes(40, "requests")
      const cut = yield* Effect.flip(client.multi((commands) => commands.incr("n").incr("n")))
      assert.deepInclude(cut, { command: "multi", outcome: "Unknown" })
      assert.strictEqual(yield* server.cli("GET", "n"), "2")
      client.raw.disconnect(true)
      assert.deepStrictEqual(yield* client.multi((commands) => commands.incr("n")), [3])
    }).pipe(Effect.scoped))

  it.live("is counted once, however often connections are killed", () =>
    Effect.gen(function*() {
      const { client, server } = yield* proxied()
      let succeeded = 0
      let unknown = 0
      const stop = { now: false }
      const caller = Effect.gen(function*() {
        while (!stop.now) {
          const result = yield* Effect.result(incr(client))
          if (Result.isSuccess(result)) succeeded++
          else {
            assert.deepInclude(result.failure, { reason: "connection", outcome: "Unknown" })
            unknown++
          }
        }
      })
      const callers = yield* Effect.forkChild(Effect.all(Array.from({ length: 20 }, () => caller), {
        concurrency: "unbounded"
      }))
      for (let i = 0; i < 15; i++) {
        yield* server.cli("CLIENT", "KILL", "TYPE", "normal")
        const before = succeeded
        yield* until(Effect.sync(() => succeeded > before + 20))
      }
      stop.now = true
      yield* Fiber.join(callers)
      const counted = Number(yield* server.cli("GET", "n"))
      assert.isAtLeast(counted, succeeded)
      assert.isAtMost(counted, succeeded + unknown)
      assert.isAbove(unknown, 0)
    }).pipe(Effect.scoped))
})

describe("A connection that is dead without a word", () => {
  it.live("is found out at the deadline, and replaced", () =>
    Effect.gen(function*() {
      const { client, proxy, server } = yield* proxied({ commandTimeout: "150 millis" })
      yield* incr(client)
      yield* proxy.swallow("replies")
      const error = yield* Effect.flip(incr(client))
      assert.deepInclude(error, { command: "incr", reason: "timeout", outcome: "Unknown" })
      // Its replacement is as dead, and nothing is sent there.
      const next = yield* Effect.flip(incr(client))
      assert.deepInclude(next, { outcome: "NotSent" })
      yield* proxy.restore
      const back = yield* Effect.retry(incr(client), { while: ({ outcome }) => outcome === "NotSent" })
      assert.strictEqual(back, 3)
      assert.strictEqual(yield* server.cli("GET", "n"), "3")
    }).pipe(Effect.scoped))

  it.live("is given up while it is being opened, too", () =>
    Effect.gen(function*() {
      const { client, proxy } = yield* proxied({ connectTimeout: "60 millis", commandTimeout: "2 seconds" })
      yield* proxy.swallow("replies")
      yield* proxy.cut
      // It accepts connections and says nothing on them: the first one would wait for ever.
      const waiting = yield* Effect.forkChild(get(client), { startImmediately: true })
      yield* until(Effect.sync(() => proxy.accepted >= 3))
      yield* proxy.restore
      assert.isNull(yield* Fiber.join(waiting))
    }).pipe(Effect.scoped))

  it.live("is told from a slow command while other replies come in", () =>
    Effect.gen(function*() {
      const { client, proxy } = yield* proxied()
      const never = client.use("never", () => new Promise<void>(() => {}), { timeout: "150 millis" })
      const busy = Effect.forever(get(client))
      const error = yield* Effect.flip(Effect.raceFirst(never, busy))
      assert.deepInclude(error, { reason: "timeout", outcome: "Unknown" })
      yield* get(client)
      assert.strictEqual(proxy.accepted, 1)
    }).pipe(Effect.scoped))
})

describe("A process that stood still past a deadline", () => {
  it.live("reads the replies that came meanwhile, and keeps its connection", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      const client = yield* build({ url: server.url })
      const standStill = () => {
        const end = performance.now() + 80
        while (performance.now() < end) { /* as a long garbage collection does */ }
      }
      const slow = client.use("incr", (raw) => {
        setImmediate(standStill)
        return raw.incr("n")
      }, { timeout: "40 millis" })
      assert.strictEqual(yield* slow, 1)
      assert.deepInclude(yield* stateOf(client), { _tag: "Ready", epoch: 1 })
    }).pipe(Effect.scoped))
})

describe("A server that cannot be used", () => {
  it.live("is told at once when nobody listens, with what to check", () =>
    Effect.gen(function*() {
      const port = yield* Effect.promise(freePort)
      const error = yield* refusal({ port })
      assert.deepInclude(error, { command: "connect", reason: "connection", outcome: "NotSent" })
      assert.match(error.detail, /ECONNREFUSED.*REDIS_HOST/)
      const both = yield* refusal({ host: "localhost", port })
      assert.match(both.detail, /ECONNREFUSED.*REDIS_HOST/)
      assert.match((yield* refusal({ path: "/nowhere/redis.sock" })).detail, /ENOENT/)
      assert.match((yield* refusal({ host: "nowhere.invalid" })).detail, /(ENOTFOUND|EAI_AGAIN).*REDIS_HOST/)
    }))

  it.live("is told at once when it does not accept the credentials, without them", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start({ password: "right", acl: ["app on >right ~* +@all"] })
      const { host, port } = server
      const password = Redacted.make(marker)
      for (
        const settings of [
          { host, port, password },
          { host, port, username: "app", password },
          { host, port, username: "nobody", password },
          { url: `redis://:${marker}@${host}:${port}` },
          { host, port }
        ]
      ) {
        const error = yield* refusal(settings)
        assert.deepInclude(error, { command: "connect", reason: "authentication", outcome: "Rejected" })
        assert.match(error.detail, /(WRONGPASS|NOAUTH).*REDIS_PASSWORD/)
        assert.notInclude(`${inspect(error, { depth: 20, showHidden: true })} ${JSON.stringify(error)}`, marker)
      }
    }).pipe(Effect.scoped))

  it.live("is told within the connect timeout when it says nothing", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      yield* server.pause
      const error = yield* refusal({ url: server.url, connectTimeout: "50 millis" })
      assert.deepInclude(error, { command: "connect", reason: "timeout", outcome: "NotSent" })
      assert.match(error.detail, /does not answer.*firewall/)
    }).pipe(Effect.scoped))

  it.live("is told when it is none, or speaks TLS", () =>
    Effect.gen(function*() {
      const port = yield* Effect.promise(freePort)
      const other = createServer((socket) => {
        socket.on("error", () => {})
        socket.write(`HTTP/1.1 400 ${marker}\r\n\r\n`)
      })
      yield* Effect.acquireRelease(
        Effect.promise(() => new Promise<void>((resolve) => other.listen(port, "127.0.0.1", resolve))),
        () => Effect.sync(() => other.close())
      )
      const error = yield* refusal({ port })
      assert.strictEqual(error.reason, "connection")
      assert.match(error.detail, /does not speak Redis' protocol/)
      assert.notInclude(inspect(error, { depth: 20 }), marker)
      const server = yield* RedisServer.start({ tls: { certs: yield* certificates } })
      const plain = yield* refusal({ port: server.tlsPort })
      assert.deepInclude(plain, { reason: "connection", outcome: "NotSent" })
      assert.match(plain.detail, /TLS/)
    }).pipe(Effect.scoped))

  it.live("is told when it has no room for one more client", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      const first = yield* build({ url: server.url })
      yield* first.use("config", (client) => client.config("SET", "maxclients", 1))
      const error = yield* refusal({ url: server.url })
      assert.strictEqual(error.command, "connect")
      assert.include(["connection", "reply"], error.reason)
    }).pipe(Effect.scoped))

  it.live("is waited for while it loads its data, and told when that takes too long", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start({
        args: ["--rdbcompression", "no", "--loading-process-events-interval-bytes", "1024"]
      })
      const client = yield* build({ url: server.url })
      const { use } = client
      yield* server.cli("DEBUG", "POPULATE", 1000, "key", 2000)
      yield* server.cli("CONFIG", "SET", "key-load-delay", 2000)
      const reload = yield* Effect.forkChild(server.cli("DEBUG", "RELOAD"), { startImmediately: true })
      yield* until(Effect.map(server.cli("INFO", "persistence"), (info) => /loading:1/.test(String(info))))
      const late = yield* refusal({ url: server.url, connectTimeout: "250 millis" })
      assert.deepInclude(late, { command: "connect", reason: "loading", outcome: "Rejected" })
      // On a connection that was there before: refused each time, and so surely not run.
      const refused = yield* Effect.flip(use("incr", (raw) => raw.incr("n"), { timeout: "150 millis" }))
      assert.deepInclude(refused, { command: "incr", reason: "loading", outcome: "Rejected" })
      const patient = yield* Effect.forkChild(Effect.scoped(Effect.flatMap(build({ url: server.url }), incr)))
      const waiting = yield* Effect.forkChild(incr(client), { startImmediately: true })
      yield* server.cli("CONFIG", "SET", "key-load-delay", 0)
      yield* Fiber.join(reload)
      assert.sameMembers([yield* Fiber.join(patient), yield* Fiber.join(waiting)], [1, 2])
    }).pipe(Effect.scoped))
})

describe("A user with few rights", () => {
  it.live("may lack PING, INFO, CLIENT and SELECT", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start({ acl: [`app on >${marker} ~app:* resetchannels -@all +get +set`] })
      const { host, port } = server
      const settings = { host, port, username: "app", password: Redacted.make(marker), namespace: "app" }
      const { info, key, use } = yield* build(settings)
      yield* use("set", (client) => client.set(key("a"), "1"))
      for (
        const call of [
          Effect.asVoid(use("get", (client) => client.get("other"))),
          Effect.asVoid(use("del", (client) => client.del(key("a")))),
          Effect.asVoid(info())
        ]
      ) {
        const error = yield* Effect.flip(call)
        assert.deepInclude(error, { reason: "no-permission", outcome: "Rejected" })
        assert.notInclude(inspect(error, { depth: 20, showHidden: true }), marker)
      }
      // Without its database it would write to another one.
      const lost = yield* refusal({ ...settings, db: 1 })
      assert.deepInclude(lost, { command: "connect", reason: "no-permission", outcome: "Rejected" })
    }).pipe(Effect.scoped))

  it.live("never ends up in another database, even when its rights are taken later", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start({ acl: [`app on >pw ~* +@all`] })
      const { host, port } = server
      const settings = { host, port, username: "app", password: Redacted.make("pw"), db: 1 }
      const client = yield* build({ ...settings, commandTimeout: "150 millis" })
      yield* incr(client)
      yield* server.cli("ACL", "SETUSER", "app", "-select")
      yield* server.cli("CLIENT", "KILL", "TYPE", "normal")
      yield* until(Effect.map(stateOf(client), (state) => state._tag === "Disconnected" && state.error !== undefined))
      const refused = yield* Effect.flip(incr(client))
      assert.deepInclude(refused, { reason: "no-permission", outcome: "NotSent" })
      yield* server.cli("ACL", "SETUSER", "app", "+select")
      const back = yield* Effect.retry(incr(client), { while: ({ outcome }) => outcome === "NotSent" })
      assert.strictEqual(back, 2)
    }).pipe(Effect.scoped))
})

describe("A client that starts in the background", () => {
  it.live("keeps commands for the server within their deadline, and then has not sent them", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      yield* server.kill()
      const client = yield* build({ url: server.url, connect: "background" })
      const late = yield* Effect.flip(
        client.use("incr", (raw) => raw.incr("n"), { timeout: "40 millis", repeatable: true })
      )
      assert.deepInclude(late, { command: "incr", reason: "connection", outcome: "NotSent" })
      assert.match(late.detail, /ECONNREFUSED/)
      const waiting = yield* Effect.forkChild(Effect.all([incr(client), incr(client)], { concurrency: 2 }))
      const given = yield* Effect.forkChild(incr(client), { startImmediately: true })
      yield* Fiber.interrupt(given)
      yield* server.restart
      assert.sameMembers(yield* Fiber.join(waiting), [1, 2])
      assert.strictEqual(yield* server.cli("GET", "n"), "2")
    }).pipe(Effect.scoped))

  it.live("tells why it has no connection, when that is the password", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start({ password: "right" })
      const client = yield* build({
        host: server.host,
        port: server.port,
        password: Redacted.make(marker),
        connect: "background",
        commandTimeout: "100 millis"
      })
      const error = yield* Effect.flip(incr(client))
      assert.deepInclude(error, { command: "incr", reason: "authentication", outcome: "NotSent" })
      assert.notInclude(inspect(error, { depth: 20, showHidden: true }), marker)
    }).pipe(Effect.scoped))
})

describe("A server that comes back", () => {
  it.live("is found after a restart; commands of the meantime wait", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start({ persistence: "aof-always" })
      const client = yield* build({ url: server.url })
      yield* incr(client)
      yield* server.kill("SIGTERM")
      const waiting = yield* Effect.forkChild(incr(client), { startImmediately: true })
      yield* server.restart
      assert.strictEqual(yield* Fiber.join(waiting), 2)
      assert.deepInclude(yield* stateOf(client), { _tag: "Ready", epoch: 2 })
    }).pipe(Effect.scoped))

  it.live("is left for a new connection when it takes no writes any more", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      const client = yield* build({ url: server.url })
      yield* incr(client)
      yield* server.cli("REPLICAOF", "127.0.0.1", yield* Effect.promise(freePort))
      const error = yield* Effect.flip(incr(client))
      assert.deepInclude(error, { reason: "read-only", outcome: "Rejected" })
      yield* until(Effect.map(stateOf(client), ({ _tag, epoch }) => _tag === "Ready" && epoch === 2))
      const Increase = RedisScript.make({
        name: "test.increase",
        keys: ["n"],
        result: Schema.Finite,
        lua: `return redis.call("INCR", n)`
      })
      const scripted = yield* Effect.flip(client.script(Increase, { n: "n" }))
      assert.deepInclude(scripted, { reason: "read-only", outcome: "Rejected" })
      yield* until(Effect.map(stateOf(client), ({ _tag, epoch }) => _tag === "Ready" && epoch === 3))
      yield* server.cli("REPLICAOF", "NO", "ONE")
      assert.strictEqual(yield* client.script(Increase, { n: "n" }), 2)
    }).pipe(Effect.scoped))

  it.live("is used again once the password it wants is ours again", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start({ password: marker })
      const client = yield* build({ url: server.url, commandTimeout: "150 millis" })
      yield* incr(client)
      yield* server.cli("CONFIG", "SET", "requirepass", "rotated")
      yield* server.cli("CLIENT", "KILL", "TYPE", "normal")
      yield* until(Effect.map(stateOf(client), (state) => state._tag === "Disconnected" && state.error !== undefined))
      const error = yield* Effect.flip(incr(client))
      assert.deepInclude(error, { reason: "authentication", outcome: "NotSent" })
      const state = yield* stateOf(client)
      assert.notInclude(inspect(state, { depth: 20, showHidden: true }), marker)
      yield* server.cli("CONFIG", "SET", "requirepass", marker)
      const back = yield* Effect.retry(incr(client), { while: ({ outcome }) => outcome === "NotSent" })
      assert.strictEqual(back, 2)
    }).pipe(Effect.scoped))
})

describe("A server in trouble", () => {
  it.live("says that its memory is full, in transactions too", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start({ args: ["--maxmemory", "1kb", "--maxmemory-policy", "noeviction"] })
      const client = yield* build({ url: server.url })
      assert.deepInclude(yield* Effect.flip(incr(client)), { reason: "out-of-memory", outcome: "Rejected" })
      const error = yield* Effect.flip(client.multi((commands) => commands.set("a", marker)))
      assert.deepInclude(error, { reason: "out-of-memory", outcome: "Rejected" })
      assert.notInclude(inspect(error, { depth: 20, showHidden: true }), marker)
    }).pipe(Effect.scoped))

  it.live("says that a script keeps it busy, to new connections too", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start({ args: ["--lua-time-limit", "20"] })
      const client = yield* build({ url: server.url })
      const { reserve } = client
      const own = yield* reserve
      const endless = yield* Effect.forkChild(own.use("eval", (raw) => raw.eval("while true do end", 0)), {
        startImmediately: true
      })
      yield* Effect.sleep("40 millis")
      assert.deepInclude(yield* Effect.flip(incr(client)), { reason: "script", outcome: "Rejected" })
      const other = yield* build({ url: server.url })
      assert.deepInclude(yield* Effect.flip(incr(other)), { reason: "script", outcome: "Rejected" })
      yield* other.use("kill", (raw) => raw.script("KILL"))
      assert.deepInclude(yield* Effect.flip(Fiber.join(endless)), { reason: "script", outcome: "Rejected" })
      assert.strictEqual(yield* incr(other), 1)
    }).pipe(Effect.scoped))
})

describe("Closing", () => {
  it.live("fails what is under way as unknown and what waits as not sent, and everything later", () =>
    Effect.gen(function*() {
      const { proxy } = yield* proxied()
      const scope = yield* Scope.make()
      const own = yield* Scope.provide(build({ url: proxy.url }), scope)
      yield* proxy.swallow("replies")
      const sent = yield* Effect.forkChild(Effect.flip(incr(own)), { startImmediately: true })
      yield* Effect.sleep("10 millis")
      yield* Scope.close(scope, Exit.void)
      assert.deepInclude(yield* Fiber.join(sent), { reason: "connection", outcome: "Unknown" })
      assert.deepInclude(yield* Effect.flip(incr(own)), { reason: "connection", outcome: "NotSent" })
      const listener = { onMessage: () => {} }
      const deaf = yield* Effect.flip(Effect.scoped(own.subscribe("channel", "a", listener)))
      assert.deepInclude(deaf, { reason: "connection", outcome: "NotSent" })
    }).pipe(Effect.scoped))

  it.live("leaves no connection on the server, of commands, subscriptions, reserved and duplicates", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      yield* Effect.scoped(Effect.gen(function*() {
        const { duplicate, reserve, subscribe } = yield* build({ url: server.url })
        yield* reserve
        yield* duplicate()
        yield* subscribe("channel", "a", { onMessage: () => {} })
        assert.lengthOf(yield* server.clients(), 4)
      }))
      assert.lengthOf(yield* server.clients(), 0)
    }).pipe(Effect.scoped))
})

describe("TLS", () => {
  const tls = (options?: Omit<NonNullable<RedisServerOptions["tls"]>, "certs">) =>
    Effect.gen(function*() {
      const certs = yield* certificates
      const server = yield* RedisServer.start({ tls: { certs, ...options } })
      return { certs, server, url: server.tlsUrl! }
    })

  it.live("verifies the server's certificate, by name", () =>
    Effect.gen(function*() {
      const { certs: { ca }, server, url } = yield* tls()
      assert.strictEqual(yield* incr(yield* build({ url, tls: { ca } })), 1)
      const port = server.tlsPort
      assert.strictEqual(
        yield* incr(yield* build({ host: "127.0.0.1", port, tls: { ca, servername: "localhost" } })),
        2
      )
      const other = yield* refusal({ url, tls: { ca, servername: "redis.example.com" } })
      assert.deepInclude(other, { reason: "connection", outcome: "NotSent" })
      assert.match(other.detail, /certificate.*REDIS_TLS_SERVERNAME/)
    }).pipe(Effect.scoped))

  it.live("refuses an authority that it does not know, and says so", () =>
    Effect.gen(function*() {
      const { certs, url } = yield* tls()
      for (const settings of [{ url }, { url, tls: false as const }]) {
        const error = yield* refusal(settings)
        assert.deepInclude(error, { reason: "connection", outcome: "NotSent" })
        assert.match(error.detail, /certificate.*REDIS_TLS_CA/)
      }
      const stranger = yield* tls({ server: certs.strangerServer })
      assert.match((yield* refusal({ url: stranger.url, tls: { ca: certs.ca } })).detail, /certificate.*REDIS_TLS_CA/)
      assert.strictEqual(yield* incr(yield* build({ url, tls: { verify: false } })), 1)
    }).pipe(Effect.scoped))

  it.live("refuses an expired certificate, and says so", () =>
    Effect.gen(function*() {
      const { expiredServer } = yield* certificates
      const { certs: { ca }, url } = yield* tls({ server: expiredServer })
      const error = yield* refusal({ url, tls: { ca } })
      assert.match(error.detail, /certificate has expired/)
    }).pipe(Effect.scoped))

  it.live("shows its own certificate", () =>
    Effect.gen(function*() {
      const { certs: { ca, client }, url } = yield* tls({ clients: "required" })
      const key = Redacted.make(client.key)
      assert.strictEqual(yield* incr(yield* build({ url, tls: { ca, cert: client.cert, key } })), 1)
      const error = yield* refusal({ url, tls: { ca } })
      assert.strictEqual(error.reason, "connection")
      const broken = yield* refusal({ url, tls: { ca, cert: "nonsense", key } })
      assert.match(broken.detail, /REDIS_TLS/)
    }).pipe(Effect.scoped))

  it.live("tells that a server does not speak it", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      const error = yield* refusal({ url: server.url, tls: true, connectTimeout: "1 second" })
      assert.strictEqual(error.outcome, "NotSent")
      assert.match(error.detail, /TLS/)
    }).pipe(Effect.scoped))
})

describe("Secrets", () => {
  it.live("are not shown by what a program can get hold of", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start({ password: marker })
      const settings = { url: Redacted.make(server.url) }
      const client = yield* build(settings)
      const duplicate = yield* client.duplicate()
      const own = yield* client.reserve
      const failed = yield* Effect.exit(client.use("auth", (raw) => raw.call("AUTH", "nobody", marker)))
      const shown = [settings, client, client.raw, duplicate, own, failed, yield* stateOf(client)]
      for (const value of shown) {
        assert.notInclude(inspect(value, { depth: 20, showHidden: true }), marker)
      }
      assert.notInclude(JSON.stringify([client.raw, duplicate, failed]), marker)
    }).pipe(Effect.scoped))
})
