/** Credentials that are asked for before each connection: rotated ones are picked up, and a provider that fails says so. */
import { assert, describe, it } from "@effect/vitest"
import { Config, ConfigProvider, Effect, Layer, Redacted, Stream } from "effect"
import { inspect } from "node:util"
import { DistributedLock } from "../../src/DistributedLock.ts"
import { Redis } from "../../src/Redis.ts"
import { type ConnectionState, RedisClient } from "../../src/RedisClient.ts"
import { InvalidInput, type RedisError } from "../../src/RedisError.ts"
import type { Credentials, RedisSettings } from "../../src/RedisSettings.ts"
import { eventually } from "../support/queuesOnRedis.ts"
import { RedisCluster } from "../support/redisCluster.ts"
import { RedisSentinel } from "../support/redisSentinel.ts"
import { RedisServer } from "../support/redisServer.ts"

const marker = "s3cr3t-marker"

const build = (settings: RedisSettings) =>
  Effect.flatMap(Layer.build(RedisClient.layer(settings)), (context) => Effect.provide(RedisClient, context))

type Client = RedisClient["Service"]

const incr = ({ use }: Pick<Client, "use">) => use("incr", (redis) => redis.incr("n"), { repeatable: true })

const read = ({ use }: Client) => use("get", (redis) => redis.get("n"), { repeatable: true, timeout: "100 millis" })

const as = (username: string | undefined, password: string): Credentials => ({
  username,
  password: Redacted.make(password)
})

/** Gives what `current` is then, and counts how often it was asked. */
const changeable = (first: Credentials) => {
  const state = { current: first, asked: 0 }
  const effect = Effect.sync(() => {
    state.asked++
    return state.current
  })
  return Object.assign(state, { effect })
}

const rules = (username: string, password: string) => [username, "on", "resetpass", `>${password}`, "~*", "&*", "+@all"]

const start = RedisServer.start({ acl: ["default off", rules("app", "one").join(" ")] })

/** A connection of each kind, and how to see that each of them works. */
const everyConnection = (client: Client) =>
  Effect.gen(function*() {
    const heard = { messages: 0, gaps: 0 }
    yield* client.subscribe("channel", "c", { onMessage: () => heard.messages++, onGap: () => heard.gaps++ })
    const reserved = yield* client.reserve
    // There is no replica to wait for, which is said over the connection that was to write.
    const locks = yield* Layer.build(DistributedLock.layer({ replicas: { count: 1, within: "20 millis" } })).pipe(
      Effect.provideService(RedisClient, client)
    )
    const durable = Effect.flatMap(
      DistributedLock,
      (service) => Effect.flip(Effect.scoped(service.tryAcquire("lock")))
    ).pipe(Effect.provide(locks))
    return {
      heard,
      check: Effect.gen(function*() {
        yield* incr(client)
        yield* incr(reserved)
        const before = heard.messages
        yield* eventually(
          "a message comes",
          Effect.map(client.use("publish", (redis) => redis.publish("c", "")), () => heard.messages > before)
        )
        assert.propertyVal(yield* durable, "reason", "not-replicated")
        yield* Effect.scoped(Effect.flatMap(client.duplicate(), (duplicate) => Effect.promise(() => duplicate.ping())))
      })
    }
  })

/** A provider that does one thing after the other, and the last for ever. */
const inTurn = (...effects: ReadonlyArray<Effect.Effect<Credentials, unknown>>) => {
  let next = 0
  return Effect.suspend(() => effects[Math.min(next++, effects.length - 1)]!)
}

const isSilent = (error: RedisError) => {
  for (const text of [String(error), error.message, inspect(error, { depth: 9 }), JSON.stringify(error)]) {
    assert.notInclude(text, marker)
  }
}

describe("Credentials that change", () => {
  it.live("are picked up by each kind of connection, also when the server knows them first", () =>
    Effect.gen(function*() {
      const server = yield* start
      const provider = changeable(as("app", "one"))
      const client = yield* build({ host: server.host, port: server.port, credentials: provider.effect })
      assert.strictEqual(provider.asked, 1)
      const { check, heard } = yield* everyConnection(client)
      yield* check
      assert.strictEqual(provider.asked, 5)
      yield* server.cli("ACL", "SETUSER", ...rules("app", "two"))
      yield* server.cli("CLIENT", "KILL", "USER", "app")
      const error = yield* Effect.flip(read(client))
      assert.propertyVal(error, "reason", "authentication")
      provider.current = as("app", "two")
      yield* check
      yield* eventually("the gap is told", Effect.sync(() => heard.gaps === 1))
    }).pipe(Effect.scoped))

  it.live("may be another user's, or the default user's", () =>
    Effect.gen(function*() {
      const server = yield* start
      const provider = changeable(as("app", "one"))
      const client = yield* build({ host: server.host, port: server.port, credentials: provider.effect })
      const { check } = yield* everyConnection(client)
      const seen = ["app"]
      for (const [username, credentials] of [["bob", as("bob", "two")], ["default", as(undefined, "three")]] as const) {
        yield* server.cli("ACL", "SETUSER", ...rules(username, Redacted.value(credentials.password!)))
        provider.current = credentials
        yield* server.cli("ACL", "SETUSER", seen.at(-1)!, "off")
        yield* server.cli("CLIENT", "KILL", "USER", seen.at(-1)!)
        seen.push(username)
        yield* check
        assert.deepStrictEqual(new Set((yield* server.clients()).map(({ user }) => user)), new Set([username]))
      }
    }).pipe(Effect.scoped))

  it.live("are picked up in a Cluster", () =>
    Effect.gen(function*() {
      const cluster = yield* RedisCluster.start({ replicas: 0, acl: [rules("app", "one").join(" ")] })
      const provider = changeable(as("app", "one"))
      const client = yield* build({ cluster: { nodes: cluster.addresses }, credentials: provider.effect })
      const write = Effect.forEach(
        ["a", "b", "c"],
        (key) => client.use("set", (redis) => redis.set(key, "v"), { key, repeatable: true })
      )
      yield* write
      provider.current = as("app", "two")
      for (const node of cluster.nodes) {
        yield* node.cli("ACL", "SETUSER", ...rules("app", "two"))
        yield* node.cli("CLIENT", "KILL", "USER", "app")
      }
      yield* write
      const own = yield* client.duplicateCluster()
      assert.strictEqual(yield* Effect.promise(() => own.get("a")), "v")
    }).pipe(Effect.scoped))

  it.live("are picked up through Sentinels, which are not told them", () =>
    Effect.gen(function*() {
      const deployment = yield* RedisSentinel.start({ replicas: 0, password: "one" })
      const master = yield* deployment.master
      const provider = changeable(as(undefined, "one"))
      const sentinel = { name: deployment.name, nodes: deployment.addresses }
      const client = yield* build({ sentinel, credentials: provider.effect })
      const { check } = yield* everyConnection(client)
      yield* master.cli("CONFIG", "SET", "requirepass", "two")
      provider.current = as(undefined, "two")
      yield* master.cli("CLIENT", "KILL", "USER", "default")
      yield* check
    }).pipe(Effect.scoped))
})

describe("A provider", () => {
  it.live.each<[string, Effect.Effect<never, unknown>, string]>([
    ["fails", Effect.fail(new InvalidInput({ input: "vault", problem: marker })), "failed with InvalidInput"],
    ["fails with a text", Effect.fail(marker), "failed with string"],
    ["dies", Effect.die(new TypeError(marker)), "failed with TypeError"],
    ["yields nothing", Effect.succeed(undefined as never), "failed with TypeError"],
    ["yields a password in clear", Effect.succeed({ password: marker } as never), "failed with Error"]
  ])(
    "that %s: said without its words, and it is asked again in the background",
    ([, bad, detail]) =>
      Effect.gen(function*() {
        const server = yield* start
        const settings: RedisSettings = { host: server.host, port: server.port }
        const refused = yield* Effect.flip(Effect.scoped(build({ ...settings, credentials: bad })))
        assert.deepInclude(refused, {
          _tag: "RedisError",
          command: "connect",
          reason: "authentication",
          outcome: "NotSent",
          detail: `the credentials provider ${detail}`
        })
        isSilent(refused)
        const good = Effect.succeed(as("app", "one"))
        const client = yield* build({ ...settings, credentials: inTurn(bad, good, bad, good), connect: "background" })
        const isDisconnected = ({ _tag }: ConnectionState) => _tag === "Disconnected"
        const [state] = yield* Stream.runCollect(Stream.take(Stream.filter(client.states, isDisconnected), 1))
        assert.include(inspect(state), "credentials provider")
        assert.notInclude(inspect(state, { depth: 9 }), marker)
        yield* incr(client)
        const error = yield* Effect.flip(client.duplicate())
        assert.deepInclude(error, { reason: "authentication", outcome: "NotSent" })
        isSilent(error)
      }).pipe(Effect.scoped)
  )

  it.live("that hangs is given up at the connect timeout, and asked again in the background", () =>
    Effect.gen(function*() {
      const server = yield* start
      const settings: RedisSettings = { host: server.host, port: server.port, connectTimeout: "100 millis" }
      const refused = yield* Effect.flip(Effect.scoped(build({ ...settings, credentials: Effect.never })))
      assert.deepInclude(refused, { reason: "timeout", outcome: "NotSent" })
      assert.include(refused.detail, "credentials provider")
      let interrupted = false
      const hanging = Effect.onInterrupt(Effect.never, () => Effect.sync(() => void (interrupted = true)))
      const credentials = inTurn(hanging, Effect.succeed(as("app", "one")))
      yield* incr(yield* build({ ...settings, credentials, connect: "background" }))
      assert.isTrue(interrupted)
    }).pipe(Effect.scoped))

  it.live("that is slow is waited for, and not any more when the connection closes", () =>
    Effect.gen(function*() {
      const server = yield* start
      const settings: RedisSettings = { host: server.host, port: server.port }
      yield* incr(yield* build({ ...settings, credentials: Effect.delay(Effect.succeed(as("app", "one")), 100) }))
      let interrupted = false
      const credentials = Effect.onInterrupt(Effect.never, () => Effect.sync(() => void (interrupted = true)))
      yield* Effect.scoped(build({ ...settings, credentials, connect: "background" }))
      yield* Effect.yieldNow
      assert.isTrue(interrupted)
    }).pipe(Effect.scoped))

  it.live("reads the configuration that the program has", () =>
    Effect.gen(function*() {
      const server = yield* start
      const credentials = Effect.map(Config.Redacted("VAULT_PASSWORD"), (password) => ({ username: "app", password }))
      const layer = Layer.provide(
        RedisClient.layer({ host: server.host, port: server.port, credentials }),
        ConfigProvider.layer(ConfigProvider.fromEnvRecord({ VAULT_PASSWORD: "one" }))
      )
      yield* Effect.flatMap(RedisClient, incr).pipe(Effect.provide(layer))
    }).pipe(Effect.scoped))

  it.live("whose credentials are wrong: said without them", () =>
    Effect.gen(function*() {
      const server = yield* start
      const credentials = Effect.succeed(as("app", marker))
      const error = yield* Effect.flip(Effect.scoped(build({ host: server.host, port: server.port, credentials })))
      assert.deepInclude(error, { reason: "authentication" })
      isSilent(error)
    }).pipe(Effect.scoped))

  it.effect("is refused beside a user or a password", () =>
    Effect.gen(function*() {
      const credentials = Effect.succeed(as("app", "one"))
      for (
        const more of [{ password: Redacted.make(marker) }, { username: "app" }, {
          url: `redis://:${marker}@localhost`
        }]
      ) {
        const error = yield* Effect.flip(Effect.scoped(Layer.build(Redis.layer({ credentials, ...more }))))
        assert.match(error.detail, /from a provider or from username and password, not from both/)
        isSilent(error)
      }
    }))
})
