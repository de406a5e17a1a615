/** That the Sentinels of the tests are real ones, and do their work. Under TestClock: nothing here may wait for it. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Scope } from "effect"
import { Redis, type RedisOptions } from "ioredis"
import { existsSync } from "node:fs"
import { certificates } from "./certificates.ts"
import { RedisSentinel } from "./redisSentinel.ts"
import { request } from "./resp.ts"
import { sharedSentinels } from "./sharedRedis.ts"

const client = ({ addresses, name }: RedisSentinel, options?: Omit<RedisOptions, "replyMapping">) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const redis = new Redis({ sentinels: [...addresses], name, ...options })
      redis.on("error", () => {})
      return redis
    }),
    (redis) => Effect.sync(() => redis.disconnect())
  )

const run = <A>(f: () => Promise<A>) => Effect.promise(f)

const isAlive = (pid: number) => {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

describe("RedisSentinel", () => {
  it.effect("watches a master and its replicas while its scope is open, and leaves nothing behind", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const deployment = yield* Scope.provide(RedisSentinel.start({ replicas: 2 }), scope)
      const { sentinels, servers } = deployment
      assert.strictEqual(yield* deployment.master, servers[0])
      assert.deepStrictEqual(yield* deployment.replicas, servers.slice(1))
      for (const sentinel of sentinels) {
        assert.match(String(yield* sentinel.cli("SENTINEL", "CKQUORUM", "main")), /^OK 3 usable/)
      }
      const redis = yield* Scope.provide(client(deployment), scope)
      yield* run(() => redis.set("k", "v"))
      assert.strictEqual(yield* (yield* deployment.master).cli("GET", "k"), "v")
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(
        [...servers, ...sentinels].filter(({ directory, pid }) => isAlive(pid) || existsSync(directory)),
        []
      )
    }))

  it.effect("makes a replica the master when it is told to, with what the master knew", () =>
    Effect.gen(function*() {
      const deployment = yield* RedisSentinel.start()
      const before = yield* deployment.master
      yield* before.cli("SET", "k", "v")
      const after = yield* deployment.failover
      assert.notStrictEqual(after, before)
      assert.strictEqual(yield* deployment.master, after)
      assert.deepStrictEqual(yield* deployment.replicas, [before])
      assert.strictEqual(yield* after.cli("GET", "k"), "v")
      assert.match(String(yield* Effect.exit(run(() => request(before.port, [["SET", "k", "w"]])))), /READONLY/)
    }))

  it.effect("makes a replica the master when the master dies, and takes the old one back as a replica", () =>
    Effect.gen(function*() {
      const deployment = yield* RedisSentinel.start()
      const before = yield* deployment.master
      yield* before.cli("SET", "k", "v")
      // What a master had not passed on when it died would be lost.
      yield* deployment.settled
      assert.strictEqual(yield* deployment.killMaster, before)
      yield* deployment.settled
      const after = yield* deployment.master
      assert.notStrictEqual(after, before)
      yield* before.restart
      yield* deployment.settled
      assert.deepStrictEqual(yield* deployment.replicas, [before])
      assert.strictEqual(yield* before.cli("GET", "k"), "v")
    }))

  it.effect("goes on with two Sentinels, and takes the third back", () =>
    Effect.gen(function*() {
      const { sentinels: [first, other], settled } = yield* RedisSentinel.start()
      if (first === undefined || other === undefined) return assert.fail("there are three")
      yield* first.kill()
      yield* settled
      assert.match(String(yield* other.cli("SENTINEL", "CKQUORUM", "main")), /^OK 2 usable/)
      yield* first.restart
      yield* settled
      assert.match(String(yield* other.cli("SENTINEL", "CKQUORUM", "main")), /^OK 3 usable/)
    }))

  it.effect("speaks TLS everywhere, with passwords that differ", () =>
    Effect.gen(function*() {
      const certs = yield* certificates
      const deployment = yield* RedisSentinel.start({
        name: "other",
        password: "of servers",
        sentinels: { password: "of sentinels" },
        tls: { certs, clients: "required" }
      })
      const tls = { ca: certs.ca, ...certs.client }
      const redis = yield* client(deployment, {
        password: "of servers",
        sentinelPassword: "of sentinels",
        tls,
        sentinelTLS: tls,
        enableTLSForSentinelMode: true
      })
      yield* run(() => redis.set("k", "v"))
      const [master] = deployment.servers
      assert.strictEqual(redis.stream.remotePort, master?.tlsPort)
      assert.match(
        String(yield* Effect.exit(run(() => request(deployment.sentinels[0]?.port ?? 0, [["PING"]])))),
        /NOAUTH/
      )
    }))

  it.effect("speaks TLS at the Sentinels alone", () =>
    Effect.gen(function*() {
      const certs = yield* certificates
      const deployment = yield* RedisSentinel.start({ tls: { certs, only: "sentinels" } })
      const redis = yield* client(deployment, { sentinelTLS: { ca: certs.ca }, enableTLSForSentinelMode: true })
      yield* run(() => redis.set("k", "v"))
      assert.strictEqual(redis.stream.remotePort, (yield* deployment.master).port)
    }))
})

describe("sharedSentinels", () => {
  it.effect("are the same for all who ask, and up", () =>
    Effect.gen(function*() {
      const [shared, again] = yield* Effect.all([sharedSentinels, sharedSentinels], { concurrency: "unbounded" })
      assert.deepStrictEqual(shared, again)
      assert.lengthOf(shared.nodes, 3)
      for (const { port } of shared.nodes) {
        assert.match(String(yield* run(() => request(port, [["SENTINEL", "CKQUORUM", shared.name]]))), /^OK 3 usable/)
      }
    }))
})
