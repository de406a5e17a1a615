/** How Sentinels, and the servers behind them, let a connection in: passwords, TLS, and addresses that differ inside. */
import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Effect, Layer, Redacted } from "effect"
import { RedisLive } from "../../src/Redis.ts"
import { RedisClient } from "../../src/RedisClient.ts"
import type { RedisSettings, SentinelSettings } from "../../src/RedisSettings.ts"
import { certificates } from "../support/certificates.ts"
import { Proxy } from "../support/proxy.ts"
import { RedisSentinel } from "../support/redisSentinel.ts"
import { build, type Client } from "../support/sentinelClient.ts"

const marker = "s3cr3t-marker"

const buildFrom = (env: Readonly<Record<string, string>>) =>
  Effect.flatMap(
    Layer.build(Layer.provide(RedisLive, ConfigProvider.layer(ConfigProvider.fromEnvRecord(env)))),
    (context) => Effect.provide(RedisClient, context)
  )

const set = ({ use }: Client) => use("set", (redis) => redis.set("k", "v"))

/** Commands, subscriptions, and what libraries are given, each on connections of their own. */
const useAll = (client: Client) =>
  Effect.gen(function*() {
    yield* set(client)
    yield* client.subscribe("channel", "c", { onMessage: () => {} })
    const duplicate = yield* client.duplicate()
    assert.strictEqual(yield* Effect.promise(() => duplicate.get("k")), "v")
  })

const refusal = (settings: RedisSettings) => Effect.flip(Effect.scoped(build(settings)))

const to = ({ addresses, name }: RedisSentinel, more?: Partial<SentinelSettings>): SentinelSettings => ({
  name,
  nodes: addresses,
  ...more
})

describe("Sentinels that ask for a password", () => {
  it.live("let in who has it, whatever the servers ask for, and say of which it was that it is wrong", () =>
    Effect.gen(function*() {
      const deployment = yield* RedisSentinel.start({
        replicas: 0,
        password: "of servers",
        sentinels: { password: "of sentinels" }
      })
      const password = Redacted.make("of servers")
      const own = Redacted.make("of sentinels")
      yield* useAll(yield* build({ password, sentinel: to(deployment, { password: own }) }))
      for (const wrong of [undefined, Redacted.make(marker)]) {
        const error = yield* refusal({ password, sentinel: to(deployment, { password: wrong }) })
        assert.deepInclude(error, { reason: "authentication", outcome: "NotSent" })
        assert.match(error.detail, /Sentinels.*REDIS_SENTINEL_USERNAME and REDIS_SENTINEL_PASSWORD/)
        assert.notInclude(String(error), marker)
        const others = yield* refusal({ password: wrong, sentinel: to(deployment, { password: own }) })
        assert.deepInclude(others, { reason: "authentication" })
        assert.notMatch(others.detail, /SENTINEL/i)
        assert.match(others.detail, /REDIS_PASSWORD/)
      }
    }).pipe(Effect.scoped))

  it.live("and for a user who may do no more than ask for the master", () =>
    Effect.gen(function*() {
      const deployment = yield* RedisSentinel.start({
        replicas: 0,
        sentinels: {
          acl: [
            "default off",
            "guard on >pw -@all +sentinel|get-master-addr-by-name",
            "other on >pw -@all"
          ]
        }
      })
      const client = yield* buildFrom({
        REDIS_SENTINELS: deployment.addresses.map(({ host, port }) => `${host}:${port}`).join(),
        REDIS_SENTINEL_NAME: deployment.name,
        REDIS_SENTINEL_USERNAME: "guard",
        REDIS_SENTINEL_PASSWORD: "pw"
      })
      yield* set(client)
      const denied = yield* refusal({
        sentinel: to(deployment, { username: "other", password: Redacted.make("pw") })
      })
      assert.deepInclude(denied, { reason: "no-permission", outcome: "NotSent" })
    }).pipe(Effect.scoped))
})

describe("With TLS", () => {
  it.live("for Sentinels and servers, a rediss:// URL means both", () =>
    Effect.gen(function*() {
      const certs = yield* certificates
      const deployment = yield* RedisSentinel.start({ replicas: 0, tls: { certs, clients: "required" } })
      const key = Redacted.make(certs.client.key)
      const client = yield* build({ url: deployment.url, tls: { ca: certs.ca, cert: certs.client.cert, key } })
      yield* useAll(client)
      assert.strictEqual(client.raw.stream.remotePort, (yield* deployment.master).tlsPort)
      const fromEnvironment = yield* buildFrom({
        REDIS_URL: deployment.url,
        REDIS_TLS_CA: certs.ca,
        REDIS_TLS_CERT: certs.client.cert,
        REDIS_TLS_KEY: certs.client.key
      })
      yield* useAll(fromEnvironment)
      const stranger = yield* refusal({ url: deployment.url })
      assert.match(stranger.detail, /Sentinels.*certificate.*REDIS_TLS_CA/)
      const plain = yield* refusal({ url: deployment.url.replace("rediss:", "redis:"), connectTimeout: "1 second" })
      assert.match(plain.detail, /Sentinels.*REDIS_SENTINEL_TLS/)
    }).pipe(Effect.scoped))

  it.live("for Sentinels only", () =>
    Effect.gen(function*() {
      const certs = yield* certificates
      const deployment = yield* RedisSentinel.start({ replicas: 0, tls: { certs, only: "sentinels" } })
      yield* useAll(yield* build({ sentinel: to(deployment, { tls: { ca: certs.ca } }) }))
      const { port } = yield* deployment.master
      const client = yield* buildFrom({
        REDIS_SENTINELS: deployment.addresses.map(({ port }) => `localhost:${port}`).join(),
        REDIS_SENTINEL_NAME: deployment.name,
        REDIS_SENTINEL_TLS: "true",
        REDIS_TLS_CA: certs.ca
      })
      yield* useAll(client)
      assert.strictEqual(client.raw.stream.remotePort, port)
    }).pipe(Effect.scoped))

  it.live("for servers only", () =>
    Effect.gen(function*() {
      const certs = yield* certificates
      const deployment = yield* RedisSentinel.start({ replicas: 0, tls: { certs } })
      const nodes = deployment.sentinels.map(({ host, port }) => ({ host, port }))
      const client = yield* build({ sentinel: { name: deployment.name, nodes }, tls: { ca: certs.ca } })
      yield* useAll(client)
      assert.strictEqual(client.raw.stream.remotePort, (yield* deployment.master).tlsPort)
    }).pipe(Effect.scoped))
})

describe("Where servers are known by other addresses inside", () => {
  it.live("servers and Sentinels are reached at those outside", () =>
    Effect.gen(function*() {
      const deployment = yield* RedisSentinel.start({ replicas: 0 })
      const master = yield* deployment.master
      const [first, ...others] = deployment.sentinels
      const proxies = yield* Effect.forEach([master, ...others], Proxy.start)
      const client = yield* build({
        sentinel: {
          name: deployment.name,
          nodes: [first!],
          natMap: Object.fromEntries(
            [master, ...others].map((
              { port },
              i
            ) => [`127.0.0.1:${port}`, { host: "localhost", port: proxies[i]!.port }])
          )
        }
      })
      yield* useAll(client)
      assert.strictEqual(client.raw.stream.remotePort, proxies[0]!.port)
      yield* first!.kill()
      yield* proxies[0]!.cut
      yield* client.use("get", (redis) => redis.get("k"), { repeatable: true })
      assert.isAbove(proxies[1]!.accepted + proxies[2]!.accepted, 0)
    }).pipe(Effect.scoped))

  it.live("and at the same port, when the map names only a host", () =>
    Effect.gen(function*() {
      const deployment = yield* RedisSentinel.start({ replicas: 0 })
      const { port } = yield* deployment.master
      const natMap = { [`127.0.0.1:${port}`]: { host: "localhost" } }
      const client = yield* build({ sentinel: to(deployment, { natMap }) })
      yield* useAll(client)
      assert.strictEqual(client.raw.options.host, "localhost")
    }).pipe(Effect.scoped))
})
