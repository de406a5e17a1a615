/** Locks hold what they promise whatever dies: holders, waiters, connections, replies. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, Option, Result, Scope } from "effect"
import { DistributedLock } from "../../src/DistributedLock.ts"
import * as scripts from "../../src/internal/lockScripts.ts"
import { RedisClient } from "../../src/RedisClient.ts"
import { elapseLive } from "../support/elapse.ts"
import { movableRedis } from "../support/movableRedis.ts"
import { NodeProcess } from "../support/processes.ts"
import { Proxy } from "../support/proxy.ts"
import { RedisServer } from "../support/redisServer.ts"

const namespace = "contest"

/** Locks as another process would have them: on a connection of their own. */
const locksOn = (url: string, ns = namespace) =>
  Effect.map(
    Layer.build(Layer.provideMerge(DistributedLock.layer(), RedisClient.layer({ url, namespace: ns }))),
    (context) => ({ locks: Effect.runSync(Effect.provide(DistributedLock, context)), context })
  )

const eventually = (condition: Effect.Effect<boolean, unknown>) =>
  Effect.gen(function*() {
    while (!(yield* Effect.orDie(condition))) yield* elapseLive("1 millis")
  })

type Locks = DistributedLock["Service"]

const isFree = (locks: Locks, key: string) => Effect.map(locks.inspect(key), Option.isNone)

const inLine = (locks: Locks, key: string, count: number) =>
  eventually(Effect.map(locks.inspect(key), (status) => Option.exists(status, ({ waiters }) => waiters === count)))

/** How often the server has run a command since its statistics were reset. */
const callsOf = (server: RedisServer, command: string) =>
  Effect.map(
    server.cli("INFO", "commandstats"),
    (info) => Number(new RegExp(`cmdstat_${command}:calls=(\\d+)`).exec(String(info))?.[1] ?? 0)
  )

const keysOf = (server: RedisServer) =>
  Effect.map(server.cli("KEYS", "*"), (keys) => (Array.isArray(keys) ? keys.map(String) : []).toSorted())

describe("DistributedLock on Redis", () => {
  it.effect("keeps its keys in the namespace, in one slot, and none for ever", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      const { locks } = yield* locksOn(server.url)
      yield* locks.acquire("a:b")
      yield* Effect.forkScoped(locks.withLock("a:b")(Effect.void))
      yield* inLine(locks, "a:b", 1)
      const keys = yield* keysOf(server)
      const base = "contest:lock:{a%3Ab}"
      assert.deepStrictEqual(keys, [base, `${base}:line`, `${base}:patience`])
      for (const key of keys) assert.isAbove(Number(yield* server.cli("PTTL", key)), 0)
    }))

  it.effect("excludes other processes, in other namespaces only when it is shared", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      const { locks: ours } = yield* locksOn(server.url)
      const { locks: same } = yield* locksOn(server.url)
      const { locks: other } = yield* locksOn(server.url, "other")
      yield* ours.acquire("one")
      yield* ours.acquire("all", { shared: true })
      assert.isTrue(Result.isFailure(yield* Effect.result(same.tryAcquire("one"))))
      yield* other.tryAcquire("one")
      assert.isTrue(Result.isFailure(yield* Effect.result(other.tryAcquire("all", { shared: true }))))
      const waiting = yield* Effect.forkScoped(other.withLock("all", { shared: true })(Effect.void))
      yield* eventually(Effect.map(ours.inspect("all", { shared: true }), Option.exists((s) => s.waiters === 1)))
      assert.isUndefined(waiting.pollUnsafe())
      yield* ours.guardedSet({ key: "all", token: 1 }, "text", "shared", { shared: true })
      assert.deepStrictEqual(yield* other.guardedGet("text", { shared: true }), Option.some("shared"))
      assert.isTrue(Option.isNone(yield* other.guardedGet("text")))
    }))

  it.live("sends nothing while it waits, wakes one at a release, and subscribes only while it lives", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      const scope = yield* Scope.make()
      const { locks } = yield* Scope.provide(locksOn(server.url), scope)
      const holder = yield* Scope.make()
      yield* Scope.provide(locks.acquire("awaited"), holder)
      assert.lengthOf(yield* server.clients(), 1)
      const waiting: Array<Fiber.Fiber<void, unknown>> = []
      for (let i = 1; i <= 20; i++) waiting.push(yield* Effect.forkScoped(locks.withLock("awaited")(Effect.void)))
      yield* inLine(locks, "awaited", 20)
      assert.lengthOf(yield* server.clients(), 2)
      assert.lengthOf(yield* Effect.map(server.cli("PUBSUB", "CHANNELS", "*"), (all) => all as Array<string>), 1)
      yield* server.cli("CONFIG", "RESETSTAT")
      yield* elapseLive("100 millis")
      assert.strictEqual(yield* callsOf(server, "evalsha"), 0)
      yield* Scope.close(holder, Exit.void)
      yield* Fiber.awaitAll(waiting)
      // 21 releases, and 20 requests of those who were woken.
      assert.strictEqual(yield* callsOf(server, "publish"), 20)
      assert.isAtMost(yield* callsOf(server, "evalsha"), 21 + 20)
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(yield* server.cli("PUBSUB", "CHANNELS", "*"), [])
      assert.deepStrictEqual(yield* server.clients(), [])
    }))

  it.effect("survives SCRIPT FLUSH while it is held and waited for", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      const { locks } = yield* locksOn(server.url)
      const holder = yield* Scope.make()
      const lease = yield* Scope.provide(locks.acquire("flushed"), holder)
      const waiting = yield* Effect.forkScoped(locks.withLock("flushed")(Effect.succeed("mine")))
      yield* inLine(locks, "flushed", 1)
      yield* server.cli("SCRIPT", "FLUSH")
      yield* lease.extend()
      yield* server.cli("SCRIPT", "FLUSH")
      yield* Scope.close(holder, Exit.void)
      assert.strictEqual(yield* Fiber.join(waiting), "mine")
    }))

  it.effect("wakes the next in line when the first one's process is dead", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      const { locks } = yield* locksOn(server.url)
      const holder = yield* Scope.make()
      yield* Scope.provide(locks.acquire("lock"), holder)
      const doomed = yield* NodeProcess.start(new URL("../support/fixtures/contender.ts", import.meta.url), {
        args: [server.url, "wait"]
      })
      yield* inLine(locks, "lock", 1)
      const waiting = yield* Effect.forkScoped(locks.withLock("lock")(Effect.succeed("mine")))
      yield* inLine(locks, "lock", 2)
      yield* doomed.kill("SIGKILL")
      yield* eventually(Effect.map(server.clients(), (clients) => clients.length === 2))
      // The TestClock stands still: nothing but a wake-up can help.
      yield* Scope.close(holder, Exit.void)
      assert.strictEqual(yield* Fiber.join(waiting), "mine")
    }))

  it.effect("goes on to who waits when the wake-up was lost with its connection", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      const proxy = yield* Proxy.start(server)
      const { locks: near } = yield* locksOn(server.url)
      const { locks: far } = yield* locksOn(proxy.url)
      const holder = yield* Scope.make()
      yield* Scope.provide(near.acquire("lock"), holder)
      const waiting = yield* Effect.forkScoped(far.withLock("lock")(Effect.succeed("mine")))
      yield* inLine(near, "lock", 1)
      yield* proxy.refuse
      yield* server.cli("CLIENT", "KILL", "TYPE", "pubsub")
      yield* Scope.close(holder, Exit.void)
      assert.isTrue(yield* isFree(near, "lock"))
      yield* proxy.accept
      assert.strictEqual(yield* Fiber.join(waiting), "mine")
    }))

  it.effect("is held once, by who asked, when the reply to the request was lost", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      const proxy = yield* Proxy.start(server)
      const { locks } = yield* locksOn(proxy.url)
      yield* locks.withLock("lock")(Effect.void)
      yield* proxy.dropNextReply(scripts.acquire.text(0).sha)
      const accepted = proxy.accepted
      const [holder, status] = yield* locks.withLock("lock", { wait: 0 })((lease) =>
        Effect.map(locks.inspect("lock"), (status) => [lease.holder, Option.getOrThrow(status)] as const)
      )
      assert.strictEqual(proxy.accepted, accepted + 1)
      assert.strictEqual(status.holder, holder)
      assert.isTrue(yield* isFree(locks, "lock"))
    }))

  it.effect("is not left behind by a request that was interrupted before its reply came", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      const proxy = yield* Proxy.start(server)
      const { locks: near } = yield* locksOn(server.url)
      const { locks: far } = yield* locksOn(proxy.url)
      yield* far.withLock("lock")(Effect.void)
      yield* proxy.delay(Infinity, "replies")
      const asking = yield* Effect.forkScoped(Effect.scoped(far.acquire("lock")))
      yield* eventually(Effect.map(isFree(near, "lock"), (free) => !free))
      const interrupting = yield* Effect.forkScoped(Fiber.interrupt(asking))
      yield* eventually(isFree(near, "lock"))
      yield* proxy.restore
      yield* Fiber.join(interrupting)
    }))

  it.effect("interrupts the work within a third of the ttl when its key is deleted", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      const redis = movableRedis(() => ({ url: server.url, namespace }))
      yield* Effect.gen(function*() {
        const locks = yield* DistributedLock
        const working = yield* Effect.forkScoped(
          Effect.flip(locks.withLock("lock", { ttl: "3 seconds" })(Effect.never))
        )
        yield* eventually(Effect.map(isFree(locks, "lock"), (free) => !free))
        yield* server.cli("DEL", "contest:lock:{lock}")
        yield* redis.elapse("1 second")
        // The clock stands still, but the server's answer takes what it takes.
        yield* eventually(Effect.sync(() => working.pollUnsafe() !== undefined))
        assert.deepInclude(yield* Fiber.join(working), { _tag: "LockLost", reason: "removed" })
      }).pipe(Effect.provide(Layer.provide(DistributedLock.layer(), redis.layer)))
    }))

  it.effect("interrupts the work before the lease passes when the server cannot be reached", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      const proxy = yield* Proxy.start(server)
      const redis = movableRedis(() => ({ url: proxy.url, namespace, commandTimeout: "50 millis" }))
      for (const fault of [Effect.andThen(proxy.refuse, proxy.cut), proxy.swallow("both")]) {
        yield* Effect.gen(function*() {
          const locks = yield* DistributedLock
          const working = yield* Effect.forkScoped(
            Effect.flip(locks.withLock("lock", { ttl: "3 seconds" })(Effect.never))
          )
          yield* eventually(Effect.map(isFree(locks, "lock"), (free) => !free))
          yield* fault
          yield* redis.elapse("2750 millis")
          assert.deepInclude(yield* Fiber.join(working), { _tag: "LockLost", reason: "unconfirmed" })
          yield* proxy.restore
          yield* server.cli("DEL", "contest:lock:{lock}")
        }).pipe(Effect.provide(Layer.provide(DistributedLock.layer(), redis.layer)))
      }
    }))

  it.effect("refuses a record that a later version wrote, and leaves it alone", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      const { locks } = yield* locksOn(server.url)
      yield* server.cli("SET", "contest:lock:{lock}", "\u0002later")
      const error = yield* Effect.flip(locks.tryAcquire("lock"))
      assert.deepInclude(error, { _tag: "RedisError", reason: "reply", outcome: "Rejected" })
      assert.strictEqual(yield* server.cli("GET", "contest:lock:{lock}"), "\u0002later")
    }))

  it.live("comes to who waits after the ttl when its holder is killed", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      const { locks } = yield* locksOn(server.url)
      const holder = yield* NodeProcess.start(new URL("../support/fixtures/contender.ts", import.meta.url), {
        args: [server.url, "hold"]
      })
      const line = yield* holder.waitForLine("holds ")
      const waiting = yield* Effect.forkScoped(locks.withLock("lock")((lease) => Effect.succeed(lease.token)))
      yield* inLine(locks, "lock", 1)
      yield* holder.kill("SIGKILL")
      assert.isAbove(yield* Fiber.join(waiting), Number(line.split(" ")[1]))
    }))

  it.live("has one owner at a time among processes, also when some are killed", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      const contenders = yield* Effect.all(
        Array.from({ length: 3 }, () =>
          NodeProcess.start(new URL("../support/fixtures/contender.ts", import.meta.url), {
            args: [server.url, "contend"]
          }))
      )
      const length = Effect.map(server.cli("LLEN", "history"), Number)
      for (const contender of contenders) yield* contender.waitForLine("had ")
      yield* contenders[0]!.kill("SIGKILL")
      const before = yield* length
      yield* eventually(Effect.map(length, (now) => now > before + 200))
      yield* contenders[1]!.kill("SIGKILL")
      const later = yield* length
      yield* eventually(Effect.map(length, (now) => now > later + 200))
      yield* contenders[2]!.kill("SIGKILL")

      const history = (yield* server.cli("LRANGE", "history", 0, -1)) as ReadonlyArray<string>
      let last = 0
      let unfinished = 0
      for (let i = 0; i < history.length;) {
        const [event, token] = history[i]!.split(" ")
        assert.strictEqual(event, "in")
        assert.isAbove(Number(token), last)
        last = Number(token)
        const left = history[i + 1] === `out ${token}`
        if (!left) unfinished += 1
        i += left ? 2 : 1
      }
      assert.isAbove(history.length, 400)
      assert.isAtMost(unfinished, 3)
    }))
})
