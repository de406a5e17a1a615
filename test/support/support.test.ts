/** That the harness does what the other tests rely on. Under TestClock throughout: nothing here may wait for it. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Exit, Fiber, Scope, Stream } from "effect"
import { Redis, type RedisOptions } from "ioredis"
import { existsSync } from "node:fs"
import { setTimeout as sleep } from "node:timers/promises"
import { certificates } from "./certificates.ts"
import { elapseLive, elapseTest } from "./elapse.ts"
import { NodeProcess } from "./processes.ts"
import { Proxy } from "./proxy.ts"
import { RedisServer } from "./redisServer.ts"
import { sharedRedisUrl, uniqueNamespace } from "./sharedRedis.ts"

/** A plain client that neither retries nor reconnects, so that what a test sees is what happened. */
const client = (url: string, options?: Omit<RedisOptions, "replyMapping">) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const redis = new Redis(url, { retryStrategy: () => null, maxRetriesPerRequest: 0, ...options })
      redis.on("error", () => {})
      return redis
    }),
    (redis) => Effect.sync(() => redis.disconnect())
  )

const run = <A>(f: () => Promise<A>) => Effect.promise(f)

/** "kept" when it does not settle in time. */
const within = <A>(millis: number, promise: Promise<A>) =>
  run(() => Promise.race([promise, sleep(millis, "kept waiting" as const)]))

const failure = (promise: Promise<unknown>) => run(() => promise.then(() => "no failure", String))

const isAlive = (pid: number) => {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

describe("RedisServer", () => {
  it.effect("runs while its scope is open, and leaves nothing behind", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const server = yield* Scope.provide(RedisServer.start({ unixSocket: true }), scope)
      assert.strictEqual(yield* server.cli("SET", "k", "v w\r\n"), "OK")
      assert.strictEqual(yield* server.cli("GET", "k"), "v w\r\n")
      assert.deepStrictEqual(yield* server.cli("PUBSUB", "NUMSUB", "a", "b"), ["a", 0, "b", 0])
      assert.strictEqual(yield* server.cli("GET", "none"), null)
      assert.isTrue(existsSync(server.unix ?? ""))
      assert.isTrue(isAlive(server.pid))
      yield* Scope.close(scope, Exit.void)
      assert.isFalse(isAlive(server.pid))
      assert.isFalse(existsSync(server.directory))
    }))

  it.effect("comes back after SIGKILL on the same port, with its data under aof-always", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start({ persistence: "aof-always" })
      const first = server.pid
      yield* server.cli("SET", "k", "v")
      assert.deepStrictEqual(yield* server.kill(), { code: null, signal: "SIGKILL" })
      assert.match(yield* failure((yield* client(server.url)).get("k")), /closed/i)
      yield* server.restart
      assert.notStrictEqual(server.pid, first)
      assert.strictEqual(yield* server.cli("GET", "k"), "v")
    }))

  it.effect("forgets its data without persistence", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      yield* server.cli("SET", "k", "v")
      yield* server.restart
      assert.strictEqual(yield* server.cli("GET", "k"), null)
    }))

  it.effect("shuts down by itself on SIGTERM", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      assert.strictEqual((yield* server.kill("SIGTERM")).code, 0)
    }))

  it.effect("answers nothing while paused, and all of it afterwards", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      const redis = yield* client(server.url)
      yield* run(() => redis.ping())
      yield* server.pause
      const reply = redis.incr("n")
      assert.strictEqual(yield* within(50, reply), "kept waiting")
      yield* server.resume
      assert.strictEqual(yield* within(2000, reply), 1)
    }))

  it.effect("dies while paused when its scope closes", () =>
    Effect.gen(function*() {
      const server = yield* Effect.scoped(Effect.tap(RedisServer.start(), ({ pause }) => pause))
      assert.isFalse(isAlive(server.pid))
    }))

  it.effect("lists clients without the harness, by name", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      assert.deepStrictEqual(yield* server.clients(), [])
      const redis = yield* client(server.url, { connectionName: "named" })
      yield* run(() => redis.ping())
      assert.lengthOf(yield* server.clients(({ name }) => name === "named"), 1)
      assert.lengthOf(yield* server.clients(({ name }) => name === "other"), 0)
      yield* server.cli("CLIENT", "KILL", "TYPE", "normal")
      assert.deepStrictEqual(yield* server.clients(), [])
    }))

  it.effect("lets the harness in, whatever the password and the users are", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start({ password: "p@ss \"word", acl: ["app on >secret ~app:* +@all"] })
      const standard = yield* client(server.url)
      assert.strictEqual(yield* run(() => standard.ping()), "PONG")
      const app = yield* client(`redis://app:secret@${server.host}:${server.port}`)
      assert.match(yield* failure(app.get("other")), /NOPERM/)
      const stranger = yield* client(`redis://${server.host}:${server.port}`)
      assert.match(yield* failure(stranger.get("other")), /NOAUTH/)
      assert.strictEqual(yield* server.cli("DBSIZE"), 0)
    }))

  it.effect("takes further settings, and dies with the log on wrong ones", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start({ args: ["--maxmemory", "10mb"] })
      assert.deepStrictEqual(yield* server.cli("CONFIG", "GET", "maxmemory"), ["maxmemory", "10485760"])
      const exit = yield* Effect.exit(RedisServer.start({ args: ["--no-such-setting", "1"] }))
      assert.match(String(exit), /no-such-setting/)
    }))

  it.effect("starts many at once, each on a port of its own", () =>
    Effect.gen(function*() {
      const servers = yield* Effect.all(Array.from({ length: 4 }, () => RedisServer.start()), { concurrency: 4 })
      assert.strictEqual(new Set(servers.map(({ port }) => port)).size, 4)
    }))
})

describe("TLS", () => {
  it.effect("serves the good certificate to clients that know the authority, and to no others", () =>
    Effect.gen(function*() {
      const certs = yield* certificates
      const server = yield* RedisServer.start({ tls: { certs } })
      const trusting = yield* client(server.tlsUrl ?? "", { tls: { ca: certs.ca } })
      assert.strictEqual(yield* run(() => trusting.ping()), "PONG")
      assert.match(yield* tlsError(server.tlsUrl, {}), /UNABLE_TO_VERIFY_LEAF_SIGNATURE|SELF_SIGNED/)
    }))

  it.effect("asks for client certificates", () =>
    Effect.gen(function*() {
      const certs = yield* certificates
      const server = yield* RedisServer.start({ tls: { certs, clients: "required" } })
      const known = yield* client(server.tlsUrl ?? "", { tls: { ca: certs.ca, ...certs.client } })
      assert.strictEqual(yield* run(() => known.ping()), "PONG")
      // The server's alert races with its closing of the socket.
      assert.match(yield* tlsError(server.tlsUrl, { ca: certs.ca }), /CERTIFICATE_REQUIRED|ECONNRESET/)
    }))

  it.effect("serves an expired certificate, and one of a wrong authority", () =>
    Effect.gen(function*() {
      const certs = yield* certificates
      const expired = yield* RedisServer.start({ tls: { certs, server: certs.expiredServer } })
      assert.match(yield* tlsError(expired.tlsUrl, { ca: certs.ca }), /CERT_HAS_EXPIRED/)
      const wrong = yield* RedisServer.start({ tls: { certs, server: certs.strangerServer } })
      assert.match(yield* tlsError(wrong.tlsUrl, { ca: certs.ca }), /UNABLE_TO_VERIFY_LEAF_SIGNATURE/)
    }))
})

const tlsError = (url: string | undefined, tls: NonNullable<RedisOptions["tls"]>) =>
  Effect.gen(function*() {
    const redis = yield* client(url ?? "", { tls })
    return yield* run(() =>
      new Promise<string>((resolve) => {
        redis.on("error", (error: NodeJS.ErrnoException) => resolve(`${error.code}`))
        redis.ping().then(resolve, () => {})
      })
    )
  })

describe("Proxy", () => {
  const proxied = Effect.gen(function*() {
    const server = yield* RedisServer.start()
    const proxy = yield* Proxy.start(server)
    const redis = yield* client(proxy.url)
    yield* run(() => redis.ping())
    return { server, proxy, redis }
  })

  it.effect("passes on whatever is sent, large values too", () =>
    Effect.gen(function*() {
      const { proxy, redis } = yield* proxied
      const value = "x".repeat(5_000_000)
      yield* run(() => redis.set("k", value))
      assert.strictEqual(yield* run(() => redis.get("k")), value)
      assert.deepStrictEqual([proxy.connections, proxy.accepted], [1, 1])
    }))

  it.effect("delays, and keeps the order", () =>
    Effect.gen(function*() {
      const { proxy, redis } = yield* proxied
      yield* proxy.delay(60, "replies")
      const begin = performance.now()
      const first = redis.incr("n")
      yield* run(() => sleep(20))
      yield* proxy.delay(0)
      assert.deepStrictEqual(yield* run(() => Promise.all([first, redis.incr("n")])), [1, 2])
      const took = performance.now() - begin
      assert.isTrue(took > 50 && took < 500, `took ${took} ms`)
      yield* proxy.delay(Infinity)
      const held = redis.incr("n")
      assert.strictEqual(yield* within(30, held), "kept waiting")
      yield* proxy.restore
      assert.strictEqual(yield* within(2000, held), 3)
    }))

  it.effect("cuts", () =>
    Effect.gen(function*() {
      const { proxy, redis, server } = yield* proxied
      yield* proxy.delay(Infinity, "replies")
      const lost = failure(redis.incr("n"))
      const waiting = yield* Effect.forkChild(lost, { startImmediately: true })
      yield* run(() => sleep(20))
      yield* proxy.cut
      assert.match(yield* Fiber.join(waiting), /closed/i)
      assert.strictEqual(yield* server.cli("GET", "n"), "1")
      assert.strictEqual(proxy.connections, 0)
      yield* proxy.restore
      const next = yield* client(proxy.url)
      assert.strictEqual(yield* run(() => next.get("n")), "1")
    }))

  it.effect("cuts a pipeline in its middle: what came before has run", () =>
    Effect.gen(function*() {
      const { proxy, redis, server } = yield* proxied
      const one = "*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n".length
      yield* proxy.cutAfterBytes(10 * one + 5, "requests")
      const results = yield* run(() => Promise.allSettled(Array.from({ length: 20 }, () => redis.incr("n"))))
      assert.isTrue(results.every(({ status }) => status === "rejected"))
      yield* eventually(Effect.map(server.cli("GET", "n"), (n) => n === "10"))
      // Once only.
      const next = yield* client(proxy.url)
      assert.strictEqual(yield* run(() => next.incrby("n", 1000)), 1010)
      yield* proxy.cutAfterBytes(3, "replies")
      assert.match(yield* failure(next.incr("n")), /closed/i)
      assert.strictEqual(yield* server.cli("GET", "n"), "1011")
    }))

  it.effect("swallows replies while the commands run", () =>
    Effect.gen(function*() {
      const { proxy, redis, server } = yield* proxied
      yield* proxy.swallow("replies")
      const reply = redis.incr("n")
      const failed = failure(reply)
      assert.strictEqual(yield* within(50, reply.catch(() => "failed")), "kept waiting")
      assert.strictEqual(yield* server.cli("GET", "n"), "1")
      assert.strictEqual(proxy.connections, 1)
      yield* proxy.restore
      assert.match(yield* failed, /closed/i)
    }))

  it.effect("swallows on those connections only that are meant", () =>
    Effect.gen(function*() {
      const { proxy, redis } = yield* proxied
      const named = yield* client(proxy.url)
      yield* run(() => named.client("SETNAME", "the-other"))
      yield* proxy.swallow("both", "the-other")
      const reply = named.ping().catch(() => "failed")
      assert.strictEqual(yield* run(() => redis.ping()), "PONG")
      assert.strictEqual(yield* within(50, reply), "kept waiting")
      yield* proxy.restore
      assert.strictEqual(yield* within(2000, reply), "failed")
      assert.strictEqual(yield* run(() => redis.ping()), "PONG")
    }))

  it.effect("keeps connections half open while it swallows, even when the server is gone", () =>
    Effect.gen(function*() {
      const { proxy, redis, server } = yield* proxied
      yield* proxy.swallow("both")
      const reply = redis.incr("n").catch(() => "failed")
      yield* run(() => sleep(20))
      assert.strictEqual(yield* server.cli("GET", "n"), null)
      yield* server.kill()
      assert.strictEqual(yield* within(50, reply), "kept waiting")
      assert.strictEqual(redis.status, "ready")
      yield* proxy.restore
      assert.strictEqual(yield* within(2000, reply), "failed")
    }))

  it.effect("loses a reply after the command ran, of the request that is meant", () =>
    Effect.gen(function*() {
      const { proxy, redis, server } = yield* proxied
      yield* proxy.dropNextReply("precious")
      yield* run(() => redis.incr("other"))
      assert.match(yield* failure(redis.incr("precious")), /closed/i)
      assert.strictEqual(yield* server.cli("GET", "precious"), "1")
      assert.strictEqual(proxy.severed, 1)
      const next = yield* client(proxy.url)
      assert.strictEqual(yield* run(() => next.incr("precious")), 2)
    }))

  it.effect("refuses, and accepts again", () =>
    Effect.gen(function*() {
      const { proxy, redis } = yield* proxied
      yield* proxy.refuse
      assert.strictEqual(yield* run(() => redis.ping()), "PONG")
      const code = new Promise<unknown>((resolve) => {
        const refused = new Redis(proxy.url, { retryStrategy: () => null })
        refused.on("error", (error: NodeJS.ErrnoException) => resolve(error.code))
      })
      assert.strictEqual(yield* within(2000, code), "ECONNREFUSED")
      yield* proxy.accept
      const next = yield* client(proxy.url)
      assert.strictEqual(yield* run(() => next.ping()), "PONG")
      assert.strictEqual(proxy.connections, 2)
    }))

  it.effect("hands on a server's end, and the client's", () =>
    Effect.gen(function*() {
      const { proxy, redis, server } = yield* proxied
      const second = yield* client(proxy.url)
      yield* run(() => second.quit())
      yield* eventually(Effect.map(server.clients(), (clients) => clients.length === 1))
      yield* server.kill()
      yield* eventually(Effect.sync(() => redis.status === "end" && proxy.connections === 0))
    }))

  it.effect("makes the server feel a client that does not read", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start({ args: ["--client-output-buffer-limit", "normal 4mb 0 0"] })
      const proxy = yield* Proxy.start(server)
      const redis = yield* client(proxy.url)
      yield* run(() => redis.set("k", "x".repeat(1_000_000)))
      yield* proxy.delay(Infinity, "replies")
      for (let i = 0; i < 40; i++) redis.get("k").catch(() => {})
      yield* eventually(Effect.map(server.clients(), (clients) => clients.length === 0))
      // What it prints comes by a pipe, in its own time.
      yield* eventually(Effect.sync(() => server.log.includes("output buffer limits")))
    }))
})

const echo = (args: ReadonlyArray<string>, env?: Record<string, string>) =>
  NodeProcess.start(new URL("./fixtures/echo.ts", import.meta.url), { args, ...env && { env } })

describe("NodeProcess", () => {
  it.effect("runs TypeScript, and hands over its lines", () =>
    Effect.gen(function*() {
      const child = yield* echo(["a b"], { GREETING: "hello" })
      assert.strictEqual(yield* child.waitForLine("hello"), "hello a b")
      yield* child.send("and more")
      assert.strictEqual(yield* child.waitForLine(/^echo/), "echo and more")
      assert.deepStrictEqual(yield* Stream.runCollect(Stream.take(child.lines, 2)), ["hello a b", "echo and more"])
      yield* child.send("exit 3")
      assert.deepStrictEqual(yield* child.exit, { code: 3, signal: null })
      assert.deepStrictEqual(yield* Stream.runCollect(child.lines), ["hello a b", "echo and more", "echo exit 3"])
      assert.match(child.output, /goodbye/)
      assert.match(String(yield* Effect.exit(child.waitForLine("never"))), /ended without the line never[^]*goodbye/)
    }))

  it.effect("is killed by signals, and with its scope", () =>
    Effect.gen(function*() {
      const child = yield* echo(["x"], { GREETING: "hi" })
      yield* child.waitForLine("hi")
      assert.match(String(yield* Effect.exit(child.waitForLine("never", 20))), /had not printed within 20 ms/)
      assert.deepStrictEqual(yield* child.kill("SIGTERM"), { code: null, signal: "SIGTERM" })
      const { pid } = yield* Effect.scoped(echo(["x"]))
      assert.isFalse(isAlive(pid))
    }))

  it.effect("takes its own servers along when it is killed itself", () =>
    Effect.gen(function*() {
      const child = yield* NodeProcess.start(new URL("./fixtures/startServer.ts", import.meta.url))
      const [pid, directory] = (yield* child.waitForLine("/")).split(" ")
      assert.isTrue(isAlive(Number(pid)))
      yield* child.kill()
      yield* eventually(Effect.sync(() => !isAlive(Number(pid)) && !existsSync(directory ?? "")))
    }))
})

describe("elapse", () => {
  it.effect("waits, or only says so", () =>
    Effect.gen(function*() {
      const real = performance.now()
      yield* elapseLive("30 millis")
      assert.isAbove(performance.now() - real, 28)
      const before = yield* Clock.currentTimeMillis
      yield* elapseTest("1 hour")
      assert.strictEqual((yield* Clock.currentTimeMillis) - before, 3_600_000)
    }))

  it.live("waits under the live clock, too", () => elapseLive("1 millis"))
})

describe("the shared server", () => {
  it.effect("is there, with room for everyone", () =>
    Effect.gen(function*() {
      const redis = yield* client(sharedRedisUrl())
      assert.strictEqual(yield* run(() => redis.ping()), "PONG")
      assert.match(uniqueNamespace(), /^t-[0-9a-f-]{36}$/)
      assert.notStrictEqual(uniqueNamespace(), uniqueNamespace())
    }))
})

/** Asks again every 5 ms, for 2 seconds. */
const eventually = (check: Effect.Effect<boolean>): Effect.Effect<void> =>
  Effect.gen(function*() {
    const deadline = performance.now() + 2000
    while (!(yield* check)) {
      if (performance.now() > deadline) assert.fail("It did not come true within 2 seconds")
      yield* run(() => sleep(5))
    }
  })
