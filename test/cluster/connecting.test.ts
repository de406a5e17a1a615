/** How a client finds its way into a Cluster, and what it says when it does not. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Redacted, Stream } from "effect"
import { inspect } from "node:util"
import type { RedisClient } from "../../src/RedisClient.ts"
import { fromUrl } from "../../src/RedisConfig.ts"
import type { RedisError } from "../../src/RedisError.ts"
import type { RedisSettings } from "../../src/RedisSettings.ts"
import { certificates } from "../support/certificates.ts"
import { freePort } from "../support/freePort.ts"
import { Proxy } from "../support/proxy.ts"
import { RedisCluster } from "../support/redisCluster.ts"
import { RedisServer } from "../support/redisServer.ts"
import { connect, keyAtEach, settingsOf, suiteCluster } from "../support/suiteCluster.ts"

const cluster = suiteCluster({
  masters: 3,
  replicas: 0,
  password: "s3cr3t-marker",
  acl: ["app on >app-secret ~* &* +@all", "blind on >app-secret ~* &* +@all -cluster"]
})

const known = (more: RedisSettings = {}) =>
  settingsOf(cluster(), { password: Redacted.make("s3cr3t-marker"), connectTimeout: "2 seconds", ...more })

const refusal = (settings: RedisSettings): Effect.Effect<RedisError, RedisClient["Service"]> =>
  Effect.flip(Effect.scoped(connect(settings)))

/** Each master does what it is asked to. */
const works = (client: RedisClient["Service"], all: RedisCluster) =>
  Effect.gen(function*() {
    for (const key of yield* keyAtEach(all, "works")) {
      assert.strictEqual(yield* client.use("set", (redis) => redis.set(key, "1")), "OK")
    }
  })

const nowhere = Effect.promise(async () => ({ host: "127.0.0.1", port: await freePort() }))

/** The time that an effect takes, in milliseconds. */
const timed = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const before = performance.now()
    return Effect.map(effect, (value) => [value, performance.now() - before] as const)
  })

describe("Seeds", () => {
  it.live("one that is up is enough", () =>
    Effect.gen(function*() {
      const nodes = [yield* nowhere, yield* nowhere, cluster().addresses[1]!]
      yield* works(yield* connect(known({ cluster: { nodes } })), cluster())
    }))

  it.live("when none is up, the layer fails at once and says why", () =>
    Effect.gen(function*() {
      const nodes = [yield* nowhere, yield* nowhere]
      const [error, millis] = yield* timed(refusal(known({ cluster: { nodes } })))
      assert.deepInclude(error, { command: "connect", reason: "connection", outcome: "NotSent" })
      assert.match(error.detail, /ECONNREFUSED/)
      assert.isBelow(millis, 2000)
    }))

  it.live("when none answers, the layer fails at the connect timeout", () =>
    Effect.gen(function*() {
      const proxy = yield* Proxy.start(cluster().nodes[0]!)
      yield* proxy.swallow("both")
      const nodes = [{ host: "127.0.0.1", port: proxy.port }]
      const error = yield* refusal(known({ cluster: { nodes }, connectTimeout: "150 millis" }))
      assert.deepInclude(error, { reason: "timeout", outcome: "NotSent" })
    }))

  it.live("a server that is no Cluster is told from one", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      const error = yield* refusal({ cluster: { nodes: [server] } })
      assert.deepInclude(error, { outcome: "Rejected" })
      assert.match(error.detail, /cluster support disabled/)
    }))

  it.live("a server that is in no Cluster yet has slots that nobody serves, and keeps its connection", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start({ args: ["--cluster-enabled", "yes"] })
      const proxy = yield* Proxy.start(server)
      const nodes = [{ host: "127.0.0.1", port: proxy.port }]
      const error = yield* refusal({ cluster: { nodes }, connectTimeout: "700 millis" })
      assert.deepInclude(error, { reason: "cluster-down", outcome: "NotSent" })
      assert.strictEqual(proxy.accepted, 1)
    }))

  it.live("a program may start before they do: its calls wait", () =>
    Effect.gen(function*() {
      const late = yield* RedisCluster.start({ masters: 1, replicas: 0 })
      yield* late.nodes[0]!.kill()
      const client = yield* connect(settingsOf(late, { connect: "background" }))
      const reply = yield* Effect.forkChild(client.use("set", (redis) => redis.set("early", "1")))
      const refused = yield* Effect.flip(client.use("get", (redis) => redis.get("early"), { timeout: "100 millis" }))
      assert.deepInclude(refused, { reason: "connection", outcome: "NotSent" })
      assert.match(refused.detail, /ECONNREFUSED/)
      yield* late.nodes[0]!.restart
      assert.strictEqual(yield* Fiber.join(reply), "OK")
    }))
})

describe("States", () => {
  it.live("tell when all masters are there, and the end", () =>
    Effect.gen(function*() {
      const states = yield* Effect.scoped(
        Effect.gen(function*() {
          const client = yield* connect(known({ connect: "background" }))
          const whenReady = Stream.filter(client.states, ({ _tag }) => _tag === "Ready")
          return { client, seen: yield* Stream.runCollect(Stream.take(whenReady, 1)) }
        })
      )
      assert.deepStrictEqual(states.seen, [{ _tag: "Ready", epoch: 1 }])
      const after = yield* Stream.runCollect(states.client.states)
      assert.deepStrictEqual(after, [{ _tag: "Closed", epoch: 1 }])
      const error = yield* Effect.flip(states.client.use("get", (redis) => redis.get("k")))
      assert.deepInclude(error, { reason: "connection", outcome: "NotSent" })
    }))
})

describe("Settings", () => {
  it.live("a URL with several hosts is a Cluster, with its password", () =>
    Effect.gen(function*() {
      const settings = yield* Effect.fromResult(fromUrl(Redacted.make(cluster().url)))
      yield* works(yield* connect({ ...settings, namespace: "url" }), cluster())
      yield* works(yield* connect({ url: Redacted.make(cluster().url) }), cluster())
    }))

  it.live("another database than 0 is refused", () =>
    Effect.gen(function*() {
      const error = yield* refusal(known({ db: 1 }))
      assert.match(error.detail, /only database 0/)
    }))

  it.live("a user logs in at every server; a wrong password, or none, is told at once and not shown", () =>
    Effect.gen(function*() {
      const app = { username: "app", password: Redacted.make("app-secret") }
      yield* works(yield* connect(known(app)), cluster())
      const provider = Effect.succeed(app)
      yield* works(yield* connect(settingsOf(cluster(), { credentials: provider })), cluster())
      for (const password of [Redacted.make("wr0ng-marker"), undefined]) {
        const [error, millis] = yield* timed(refusal(known({ password, connectTimeout: "10 seconds" })))
        assert.deepInclude(error, { reason: "authentication" })
        assert.notMatch(String(error), /marker/)
        assert.isBelow(millis, 5000)
      }
    }))

  it.live("a user who may not ask for the slots is told so", () =>
    Effect.gen(function*() {
      const error = yield* refusal(known({ username: "blind", password: Redacted.make("app-secret") }))
      assert.deepInclude(error, { reason: "no-permission", outcome: "Rejected" })
    }))

  it.live("no password is seen in what a program can get hold of", () =>
    Effect.gen(function*() {
      const client = yield* connect(known())
      for (const value of [client, client.raw, yield* client.servers, yield* client.duplicateCluster()]) {
        assert.notInclude(inspect(value, { depth: 20, showHidden: true }), "s3cr3t-marker")
      }
    }))
})

describe("Behind something else", () => {
  it.live("TLS is spoken to all servers, and their certificates are verified", () =>
    Effect.gen(function*() {
      const certs = yield* certificates
      const all = yield* RedisCluster.start({ masters: 2, replicas: 0, tls: { certs, clients: "required" } })
      const tls = { ca: certs.ca, cert: certs.client.cert, key: Redacted.make(certs.client.key) }
      const client = yield* connect(settingsOf(all, { tls }))
      yield* works(client, all)
      const key = "moves"
      const to = (yield* all.masters).find((master) => master.id !== all.nodes[0]!.id)!
      if ((yield* all.masterOf(key)) !== to) yield* all.migrate(key, to)
      assert.strictEqual(yield* client.use("incr", (redis) => redis.incr(key)), 1)
      const own = yield* client.duplicateCluster()
      assert.strictEqual(yield* Effect.promise(() => own.incr(key)), 2)
      const unknown = yield* refusal(settingsOf(all, { tls: { ...tls, ca: undefined } }))
      assert.match(unknown.detail, /certificate/)
    }))

  it.live("a NAT map leads to servers that call themselves something else, also where they redirect to", () =>
    Effect.gen(function*() {
      const proxies: Array<Proxy> = []
      const all = yield* RedisCluster.start({
        masters: 2,
        replicas: 0,
        announce: (node, index) =>
          Effect.map(Proxy.start(node), (proxy) => {
            proxies[index] = proxy
            // A name that leads nowhere from here.
            return { hostname: `redis-${index}.invalid` }
          })
      })
      const natMap = Object.fromEntries(
        all.nodes.map(({ port }, index) => [
          `redis-${index}.invalid:${port}`,
          { host: "127.0.0.1", port: proxies[index]!.port }
        ])
      )
      const nodes = [{ host: "127.0.0.1", port: proxies[0]!.port }]
      const client = yield* connect({ cluster: { nodes, natMap }, namespace: "nat" })
      yield* works(client, all)
      for (const proxy of proxies) assert.isAbove(proxy.connections, 0)
      const to = (yield* all.masterOf("moves")) === all.nodes[0] ? all.nodes[1]! : all.nodes[0]!
      yield* all.migrate("moves", to)
      assert.strictEqual(yield* client.use("incr", (redis) => redis.incr("moves")), 1)
      const own = yield* client.duplicateCluster()
      assert.strictEqual(yield* Effect.promise(() => own.incr("moves")), 2)
    }))
})
