/** Nothing secret is shown: by errors, logs, spans, metrics, `inspect` and the like, whatever goes wrong. */
import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Effect, Fiber, Layer, Redacted, Schema, Stream } from "effect"
import { setTimeout as sleep } from "node:timers/promises"
import { Health } from "../src/Health.ts"
import { Redis, RedisLive } from "../src/Redis.ts"
import { RedisClient } from "../src/RedisClient.ts"
import type { RedisSettings } from "../src/RedisConfig.ts"
import * as RedisScript from "../src/RedisScript.ts"
import { certificates } from "./support/certificates.ts"
import { freePort } from "./support/freePort.ts"
import { failing, makeRecorder, secrets } from "./support/leaks.ts"
import { RedisServer } from "./support/redisServer.ts"

const { argument, field, key, password, queryPart, value, wrongPassword } = secrets

const connecting = (settings: RedisSettings) => Effect.scoped(Layer.build(RedisClient.layer(settings)))

describe("What goes wrong as a connection is made", () => {
  it.live("shows no password, no key and no part of a URL", () =>
    Effect.gen(function*() {
      const recorder = makeRecorder()
      const certs = yield* certificates
      const server = yield* RedisServer.start({ acl: ["default off", `app on >${password} ~* +@all`] })
      const secure = yield* RedisServer.start({ tls: { certs, clients: "required" } })
      const { host, port } = server
      const nobody = yield* Effect.promise(freePort)
      const badKey = Redacted.make(`-----BEGIN PRIVATE KEY-----\n${key}\n-----END PRIVATE KEY-----`)
      const all: Record<string, RedisSettings> = {
        "wrong password": { host, port, username: "app", password: Redacted.make(wrongPassword) },
        "wrong user": { host, port, username: "nobody", password: Redacted.make(password) },
        "no user": { host, port, password: Redacted.make(password) },
        "wrong password in the URL": { url: `redis://app:${wrongPassword}@${host}:${port}` },
        "refused": { url: `redis://app:${password}@${host}:${nobody}` },
        "refused over TLS": { url: `rediss://app:${password}@${host}:${nobody}` },
        "no host": { url: Redacted.make(`redis://app:${password}@nowhere.invalid:6379`) },
        "no TLS there": { url: `rediss://app:${password}@${host}:${port}`, connectTimeout: "300 millis" },
        "TLS there": { url: `redis://app:${password}@${host}:${secure.tlsPort}`, connectTimeout: "300 millis" },
        "not trusted": { url: `rediss://app:${password}@${host}:${secure.tlsPort}` },
        "no certificate": { url: `rediss://app:${password}@${host}:${secure.tlsPort}`, tls: { ca: certs.ca } },
        "a key that is none": {
          host,
          port: secure.tlsPort,
          tls: { ca: certs.ca, cert: certs.client.cert, key: badKey }
        },
        "no such database": { url: `redis://app:${password}@${host}:${port}/99` },
        "a path": { path: "/nowhere/redis.sock", password: Redacted.make(password) },
        "Sentinels": {
          sentinel: {
            name: "m",
            nodes: [{ host, port: nobody }, { host, port }],
            password: Redacted.make(wrongPassword)
          },
          password: Redacted.make(password),
          connectTimeout: "300 millis"
        },
        "Sentinels in the URL": { url: `redis://:${password}@${host}:${port},${host}:${nobody}?sentinel=m` },
        "a Cluster": { url: `redis://:${wrongPassword}@${host}:${port},${host}:${nobody}` },
        "a provider that fails": { host, port, credentials: Effect.fail(`no ${password} today`) },
        "a provider that dies": {
          host,
          port,
          credentials: Effect.die(new Error(`no ${password} today`)),
          connectTimeout: "300 millis"
        }
      }
      // Refused before anything is connected to.
      const half: RedisSettings = { host, port: secure.tlsPort, tls: { key: badKey } }
      yield* failing(recorder, "a key without its certificate", connecting(half))
      for (const [where, settings] of Object.entries(all)) {
        yield* failing(recorder, where, connecting(settings))
        const duplicate = Effect.flatMap(RedisClient, (client) => Effect.scoped(client.duplicate()))
        yield* failing(
          recorder,
          `${where}, in the background`,
          Effect.flatMap(RedisClient, ({ use }) => use("get", (client) => client.get("a"))).pipe(
            Effect.provide(RedisClient.layer({ ...settings, connect: "background", commandTimeout: "100 millis" }))
          )
        )
        yield* failing(
          recorder,
          `${where}, a duplicate`,
          Effect.provide(
            duplicate,
            RedisClient.layer({ ...settings, connect: "background", connectTimeout: "150 millis" })
          )
        )
        yield* Effect.provide(
          Effect.gen(function*() {
            recorder.show(where, yield* Effect.flatMap(Health, ({ check }) => check))
            recorder.show(where, yield* Effect.flatMap(Health, ({ ready }) => ready))
            recorder.show(where, yield* Stream.runHead((yield* RedisClient).states))
          }),
          Health.layer({ deadline: "50 millis" }).pipe(
            Layer.provideMerge(RedisClient.layer({ ...settings, connect: "background" }))
          )
        )
      }
      const malformed = [
        `http://app:${password}@h`,
        `redis://app:${password}@h:port`,
        `redis://app:${password}@h:99999`,
        `redis://app:${password}/x@h`,
        `redis://app:${password}#x@h`,
        `redis://app:${password}%@h`,
        `redis://app:${password}@`,
        `redis://app:${password}@h/db`,
        `redis://app:${password}@h?x=${queryPart}`,
        `redis://app:${password}@h?sentinel=${queryPart}&sentinel=b`,
        `redis://app:${password}@h1,h2?cluster=${queryPart}`,
        `unix://${password}/x.sock`,
        password,
        ""
      ]
      for (const url of malformed) {
        yield* failing(recorder, "a malformed URL", connecting({ url }))
        yield* failing(recorder, "a malformed URL", connecting({ url: Redacted.make(url) }))
        if (url === "") continue
        const environment = ConfigProvider.layer(ConfigProvider.fromUnknown({ REDIS_URL: url }))
        yield* failing(
          recorder,
          "a malformed variable",
          Effect.provide(Effect.scoped(Layer.build(RedisLive)), environment)
        )
      }
      const variables = {
        REDIS_PORT: queryPart,
        REDIS_DB: queryPart,
        REDIS_TLS: queryPart,
        REDIS_TLS_KEY: key,
        REDIS_CONNECT_TIMEOUT: queryPart,
        REDIS_SENTINELS: `a:${queryPart}`,
        REDIS_CLUSTER_NODES: `:${password}@a:1`,
        REDIS_NAT_MAP: queryPart
      }
      for (const [name, text] of Object.entries(variables)) {
        const environment = ConfigProvider.layer(ConfigProvider.fromUnknown({ [name]: text, REDIS_PASSWORD: password }))
        yield* failing(recorder, name, Effect.provide(Effect.scoped(Layer.build(RedisLive)), environment))
      }
      yield* recorder.assertNothing()
    }).pipe(Effect.scoped), 60_000)
})

const ownScript = RedisScript.make({
  name: "broken",
  keys: ["k"],
  args: ["a"],
  result: Schema.Finite,
  lua: `return redis.call("INCRBY", k, a)`
})

const Users = Schema.Struct({ name: Schema.Finite, tags: Schema.Record(Schema.String, Schema.Finite) })
const user = `{"name":"${value}","tags":{"${field}":"${value}"}}`

describe("What goes wrong with commands", () => {
  it.live("shows no value, no argument and no password", () => {
    const recorder = makeRecorder()
    return Effect.gen(function*() {
      const server = yield* RedisServer.start({
        acl: ["default off", `app on >${password} ~app:* &app:* +@all -lpush`]
      })
      yield* Effect.gen(function*() {
        const { info, key, multi, pipeline, reserve, script, use } = yield* RedisClient
        const redis = yield* Redis
        const fails = <A, E, R>(where: string, effect: Effect.Effect<A, E, R>) => failing(recorder, where, effect)
        yield* redis.set("text", user)
        yield* redis.hset("hash", { a: value })

        yield* fails("NOPERM", use("lpush", (client) => client.lpush(key("l"), argument)))
        yield* fails("NOPERM on a key", use("get", (client) => client.get(argument)))
        yield* fails("WRONGTYPE", use("rpush", (client) => client.rpush(key("text"), argument)))
        yield* fails("WRONGTYPE, typed", redis.hset("text", { a: argument }))
        yield* fails("no number", redis.incr("text"))
        yield* fails("an unknown command", use("nosuch", (client) => client.call("NOSUCH", argument)))
        yield* fails("an unknown subcommand", use("config", (client) => client.call("CONFIG", argument)))
        yield* fails("an unknown option", use("expire", (client) => client.call("EXPIRE", key("a"), "1", argument)))
        for (const rule of [`<${password}`, `<${password}' '`, `#${password}`, `it's ${password}`, `'${password}`]) {
          yield* fails("a rule", use("acl", (client) => client.acl("SETUSER", "other", rule)))
        }
        yield* fails("AUTH", use("auth", (client) => client.call("AUTH", "app", wrongPassword)))
        yield* fails("HELLO", use("hello", (client) => client.call("HELLO", "2", "AUTH", "app", wrongPassword)))
        yield* fails("CONFIG SET", use("config", (client) => client.config("SET", "maxmemory", argument)))
        yield* fails("a script", script(ownScript, { k: key("text"), a: argument }))
        yield* fails("a script's text", use("eval", (client) => client.eval(`return '${argument}' +`, 0)))
        yield* fails("a function", use("parse", () => Promise.reject(new Error(argument))))
        yield* fails("a function that throws", use("parse", () => JSON.parse(argument)))
        yield* fails("a transaction", multi((t) => t.set(key("a"), argument).lpush(key("text"), argument)))
        yield* fails("a transaction's form", multi((t) => t.set(key("a"), argument).call("NOSUCH", argument)))
        yield* fails("no timeout", use("get", (client) => client.get(key(argument)), { timeout: NaN }))
        recorder.show("a pipeline", yield* pipeline((p) => p.lpush(key("text"), argument).call("NOSUCH", argument)))
        yield* fails("not sent in time", use("blpop", (client) => client.get(argument), { timeout: NaN }))
        yield* fails(
          "late",
          Effect.scoped(
            Effect.flatMap(
              reserve,
              (own) => own.use("blpop", (client) => client.blpop(key(argument), 1), { timeout: "20 millis" })
            )
          )
        )

        yield* fails("undecodable", redis.getJson("text", Users))
        yield* fails("not to be encoded", redis.setJson("a", Users, JSON.parse(user)))
        yield* fails("too large", redis.set("a", argument.repeat(1_500_000)))
        yield* fails("half a pair", redis.set("a", `${argument}\ud800`))
        yield* fails("a bad field", redis.hset("a", { [`${field}\ud800`]: argument }))

        yield* server.cli("CONFIG", "SET", "maxmemory", "1")
        yield* fails("OOM", redis.set("a", argument))
        yield* fails("OOM in a transaction", multi((t) => t.set(key("a"), argument)))
        yield* server.cli("CONFIG", "SET", "maxmemory", "0")

        yield* server.pause
        yield* fails("no answer", use("set", (client) => client.set(key("a"), argument), { timeout: "50 millis" }))
        yield* server.resume
        const cut = yield* Effect.forkChild(
          failing(
            recorder,
            "killed",
            use("eval", (client) => client.eval("while true do end", 0), { timeout: "5 seconds" })
          )
        )
        yield* Effect.promise(() => sleep(50))
        yield* server.kill()
        yield* Fiber.join(cut)
        yield* fails("gone", redis.set("a", argument))
        recorder.show("info", yield* Effect.exit(info()))
      }).pipe(
        Effect.provide(
          Layer.provideMerge(
            Redis.layer({ url: `redis://app:${password}@${server.host}:${server.port}`, commandTimeout: "300 millis" }),
            recorder.layer
          )
        )
      )
      assert.isAbove(recorder.spans(), 30)
      yield* recorder.assertNothing()
    }).pipe(Effect.scoped)
  }, 60_000)
})
