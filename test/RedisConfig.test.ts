/** RedisConfig: every variable and form of URL, and that no error gives a value away. */
import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Effect, Exit, Redacted, Result } from "effect"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { inspect } from "node:util"
import * as RedisConfig from "../src/RedisConfig.ts"

type Env = Readonly<Record<string, string>>

const from = (env: Env) => ConfigProvider.layer(ConfigProvider.fromEnvRecord(env))

const read = (env: Env) => Effect.provide(RedisConfig.config, from(env))

const marker = "s3cr3t-marker"

/** What is set, with what is redacted in clear. */
const shown = (settings: RedisConfig.RedisSettings) => {
  const clear = (value: unknown): unknown =>
    Redacted.isRedacted(value)
      ? Redacted.value(value)
      : Array.isArray(value)
      ? value.map(clear)
      : typeof value === "object" && value !== null
      ? Object.fromEntries(Object.entries(value).filter(([, v]) => v !== undefined).map(([k, v]) => [k, clear(v)]))
      : value
  return clear(settings)
}

describe("RedisConfig.config", () => {
  it.effect("reads every variable", () =>
    Effect.gen(function*() {
      const settings = yield* read({
        REDIS_HOST: "redis.internal",
        REDIS_PORT: "6380",
        REDIS_USERNAME: "app",
        REDIS_PASSWORD: "p@ss word",
        REDIS_DB: "3",
        REDIS_TLS: "true",
        REDIS_TLS_CA: "-----BEGIN CERTIFICATE-----\\nca\\n-----END CERTIFICATE-----",
        REDIS_TLS_CERT: "-----BEGIN CERTIFICATE-----\ncert",
        REDIS_TLS_KEY: "-----BEGIN PRIVATE KEY-----\nkey",
        REDIS_TLS_SERVERNAME: "redis.example.com",
        REDIS_TLS_VERIFY: "false",
        REDIS_CONNECT_TIMEOUT: "2s",
        REDIS_COMMAND_TIMEOUT: "1500",
        SERVICE_NAME: "api-gateway"
      })
      assert.deepStrictEqual(shown(settings), {
        host: "redis.internal",
        port: 6380,
        username: "app",
        password: "p@ss word",
        db: 3,
        tls: {
          ca: "-----BEGIN CERTIFICATE-----\nca\n-----END CERTIFICATE-----",
          cert: "-----BEGIN CERTIFICATE-----\ncert",
          key: "-----BEGIN PRIVATE KEY-----\nkey",
          servername: "redis.example.com",
          verify: false
        },
        connectTimeout: 2000,
        commandTimeout: 1500,
        namespace: "api-gateway"
      })
    }))

  it.effect("reads a Cluster's nodes from the URL or from a variable", () =>
    Effect.gen(function*() {
      const nodes = [{ host: "h1", port: 7000 }, { host: "h2" }, { host: "::1", port: 7002 }]
      const list = "h1:7000,h2,[::1]:7002"
      assert.deepStrictEqual(shown(yield* read({ REDIS_URL: `rediss://ada:pw@${list}` })), {
        username: "ada",
        password: "pw",
        tls: {},
        cluster: { nodes }
      })
      assert.deepStrictEqual(shown(yield* read({ REDIS_URL: "redis://h1:7000?cluster=true" })), {
        tls: false,
        cluster: { nodes: nodes.slice(0, 1) }
      })
      assert.deepStrictEqual(
        shown(
          yield* read({
            REDIS_CLUSTER_NODES: list.replaceAll(",", ", "),
            REDIS_READ_FROM: "replica",
            REDIS_NAT_MAP: "10.0.0.1:6379=h1:7000,[fe80::1]:6379=h2:7001"
          })
        ),
        {
          tls: false,
          cluster: {
            nodes,
            readFrom: "replica",
            natMap: { "10.0.0.1:6379": { host: "h1", port: 7000 }, "fe80::1:6379": { host: "h2", port: 7001 } }
          }
        }
      )
    }))

  it.effect("reads Sentinels from the URL or from variables", () =>
    Effect.gen(function*() {
      const nodes = [{ host: "s1", port: 26379 }, { host: "s2" }]
      const own = {
        REDIS_SENTINEL_USERNAME: "guard",
        REDIS_SENTINEL_PASSWORD: "pw2",
        REDIS_SENTINEL_TLS: "true",
        REDIS_TLS_SERVERNAME: "redis.internal"
      }
      const sentinel = {
        name: "my master",
        nodes,
        username: "guard",
        password: "pw2",
        tls: { servername: "redis.internal" }
      }
      assert.deepStrictEqual(
        shown(yield* read({ REDIS_URL: "redis://ada:pw@s1:26379,s2/3?sentinel=my%20master", ...own })),
        { username: "ada", password: "pw", db: 3, tls: false, sentinel }
      )
      assert.deepStrictEqual(
        shown(
          yield* read({
            REDIS_SENTINELS: "s1:26379,s2",
            REDIS_SENTINEL_NAME: "my master",
            REDIS_PASSWORD: "pw",
            ...own
          })
        ),
        { password: "pw", tls: false, sentinel }
      )
    }))

  it.effect("refuses Sentinels without the master's name, and a Cluster together with Sentinels", () =>
    Effect.gen(function*() {
      const nameless = yield* Effect.exit(read({ REDIS_SENTINELS: "s1" }))
      assert.match(String(nameless), /REDIS_SENTINEL_NAME is malformed/)
      const both = yield* Effect.exit(
        read({ REDIS_SENTINELS: "s1", REDIS_SENTINEL_NAME: "a", REDIS_CLUSTER_NODES: "h1" })
      )
      assert.match(String(both), /REDIS_CLUSTER_NODES and REDIS_SENTINELS are set/)
    }))

  it.effect.each<[string, Env]>([
    ["REDIS_CLUSTER_NODES", { REDIS_URL: "redis://h", REDIS_CLUSTER_NODES: "h1,h2" }],
    ["REDIS_CLUSTER_NODES", { REDIS_URL: "redis://s1,s2?sentinel=main", REDIS_CLUSTER_NODES: "h1,h2" }],
    ["REDIS_READ_FROM", { REDIS_HOST: "h", REDIS_READ_FROM: "replica" }],
    ["REDIS_READ_FROM", { REDIS_URL: "redis://s1?sentinel=main", REDIS_READ_FROM: "replica" }],
    ["REDIS_SENTINELS", { REDIS_URL: "redis://h", REDIS_SENTINELS: "s1", REDIS_SENTINEL_NAME: "main" }],
    ["REDIS_SENTINELS", { REDIS_URL: "redis://h1,h2", REDIS_SENTINELS: "s1", REDIS_SENTINEL_NAME: "main" }],
    ...["NAME", "USERNAME", "PASSWORD"].map((one): [string, Env] => [`REDIS_SENTINEL_${one}`, {
      REDIS_URL: "redis://h1,h2",
      [`REDIS_SENTINEL_${one}`]: marker
    }]),
    ["REDIS_SENTINEL_TLS", { REDIS_HOST: "h", REDIS_SENTINEL_TLS: "true" }],
    ["REDIS_NAT_MAP", { REDIS_URL: "redis://h", REDIS_NAT_MAP: "a:1=b:2" }],
    ["REDIS_HOST", { REDIS_HOST: marker, REDIS_CLUSTER_NODES: "h1" }],
    ["REDIS_HOST", { REDIS_HOST: marker, REDIS_SENTINELS: "s1", REDIS_SENTINEL_NAME: "main" }],
    ...["CA", "CERT", "KEY"].map((one): [string, Env] => [`REDIS_TLS_${one}`, {
      REDIS_URL: "redis://h",
      [`REDIS_TLS_${one}`]: `-----BEGIN ${marker}`
    }]),
    ["REDIS_TLS_SERVERNAME", { REDIS_HOST: "h", REDIS_TLS_SERVERNAME: marker }],
    ...["CERT", "KEY"].map((one): [string, Env] => [`REDIS_TLS_${one}`, {
      REDIS_URL: "rediss://h",
      [`REDIS_TLS_${one}`]: `-----BEGIN ${marker}`
    }]),
    ["REDIS_DB", { REDIS_URL: "redis://h1,h2", REDIS_DB: "3" }],
    ["A database in REDIS_URL", { REDIS_URL: "redis://h1,h2/3" }]
  ])("refuses %s where it would be of no use: %o", ([name, env]) =>
    Effect.gen(function*() {
      const exit = yield* Effect.exit(read(env))
      assert.match(String(exit), new RegExp(`${name} is set, and `))
      assert.notInclude(inspect(exit, { depth: 20 }), marker)
    }))

  it.effect("keeps certificates for later while TLS is off on purpose", () =>
    Effect.gen(function*() {
      const settings = yield* read({ REDIS_HOST: "h", REDIS_TLS: "false", REDIS_TLS_SERVERNAME: "redis.internal" })
      assert.deepStrictEqual(shown(settings), { host: "h", tls: false })
    }))

  it.effect("needs none", () =>
    Effect.map(read({}), (settings) => assert.deepStrictEqual(shown(settings), { tls: false })))

  it.effect("takes empty and blank variables as not set", () =>
    Effect.gen(function*() {
      const env = {
        REDIS_URL: "",
        REDIS_HOST: " ",
        REDIS_PORT: "",
        REDIS_PASSWORD: "",
        REDIS_TLS: "",
        SERVICE_NAME: ""
      }
      assert.deepStrictEqual(shown(yield* read(env)), { tls: false })
    }))

  it.effect.each<[string, Env, object]>([
    ["a host", { REDIS_URL: "redis://h" }, { host: "h", tls: false }],
    ["a port and a database", { REDIS_URL: "redis://h:7000/2" }, { host: "h", port: 7000, db: 2, tls: false }],
    ["a database in the query", { REDIS_URL: "redis://h?db=4" }, { host: "h", db: 4, tls: false }],
    ["spaces around it", { REDIS_URL: " redis://h\n" }, { host: "h", tls: false }],
    ["an IPv6 address", { REDIS_URL: "redis://[::1]:6379" }, { host: "::1", port: 6379, tls: false }],
    ["rediss", { REDIS_URL: "rediss://h" }, { host: "h", tls: {} }],
    ["rediss, which REDIS_TLS does not downgrade", { REDIS_URL: "rediss://h", REDIS_TLS: "false" }, {
      host: "h",
      tls: {}
    }],
    ["redis, which REDIS_TLS makes TLS", { REDIS_URL: "redis://h", REDIS_TLS: "on" }, { host: "h", tls: {} }],
    ["only a password", { REDIS_URL: "redis://:pw@h" }, { host: "h", password: "pw", tls: false }],
    [
      "percent-encoded credentials",
      { REDIS_URL: "redis://us%3Aer:p%40s%2Fs%23%25%C3%A9@h" },
      { host: "h", username: "us:er", password: "p@s/s#%é", tls: false }
    ],
    ["a unix socket", { REDIS_URL: "unix:///run/redis.sock?db=1" }, { path: "/run/redis.sock", db: 1, tls: false }],
    [
      "a unix socket with credentials",
      { REDIS_URL: "unix://app:pw@localhost/run/a%20b.sock" },
      { path: "/run/a b.sock", username: "app", password: "pw", tls: false }
    ],
    [
      "credentials from variables for what it leaves out",
      { REDIS_URL: "redis://h", REDIS_USERNAME: "app", REDIS_PASSWORD: "pw", REDIS_DB: "5", REDIS_HOST: "other" },
      { host: "h", username: "app", password: "pw", db: 5, tls: false }
    ],
    [
      "a port that Kubernetes set for a service called redis",
      { REDIS_URL: "redis://h", REDIS_PORT: "tcp://10.0.0.7:6379" },
      { host: "h", tls: false }
    ],
    [
      "what it says before variables",
      { REDIS_URL: "redis://a:b@h:1/1", REDIS_USERNAME: "x", REDIS_PASSWORD: "y", REDIS_DB: "9", REDIS_PORT: "9" },
      { host: "h", port: 1, db: 1, username: "a", password: "b", tls: false }
    ]
  ])(
    "reads a URL with %s",
    ([, env, expected]) => Effect.map(read(env), (settings) => assert.deepStrictEqual(shown(settings), expected))
  )

  it.effect("reads PEM files", () =>
    Effect.gen(function*() {
      const directory = mkdtempSync(join(tmpdir(), "config-"))
      yield* Effect.addFinalizer(() => Effect.sync(() => rmSync(directory, { recursive: true })))
      writeFileSync(join(directory, "ca.crt"), "-----BEGIN CERTIFICATE-----\nca")
      const settings = yield* read({ REDIS_TLS: "1", REDIS_TLS_CA: join(directory, "ca.crt") })
      assert.deepStrictEqual(shown(settings), { tls: { ca: "-----BEGIN CERTIFICATE-----\nca" } })
      writeFileSync(join(directory, "other"), marker)
      const exit = yield* Effect.exit(read({ REDIS_TLS: "1", REDIS_TLS_CA: join(directory, "other") }))
      assert.match(String(exit), /REDIS_TLS_CA is malformed/)
      assert.notInclude(inspect(exit, { depth: 20 }), marker)
    }))

  it.effect.each([
    ...[
      marker,
      `http://${marker}@h`,
      `redis://${marker}`.replace("redis", "rediz"),
      `redis://user:${marker}/x@h`,
      `redis://user:${marker}#x@h:6379`,
      `redis://user:12#${marker}@h:6379`,
      `redis://user:12/${marker}@h:6379`,
      `redis://user:${marker}?x@h`,
      `redis://:${marker}%@h`,
      `redis://:${marker}@h:0`,
      `redis://:${marker}@h:99999`,
      `redis://:${marker}@h/one`,
      `redis://:${marker}@h/-1`,
      `redis://:${marker}@`,
      `redis://:${marker}@h1,`,
      `redis://:${marker}@h1:1,h2:x`,
      `redis://:${marker}@h1,h2?cluster=${marker}`,
      `redis://:${marker}@h1,h2?sentinel=`,
      `redis://:${marker}@h1,h2?sentinel=a&cluster=true`,
      `redis://:${marker}@h1,h2?sentinel=a&sentinel=b`,
      `unix://h1,h2/run/${marker}.sock`,
      `redis://h?password=${marker}`,
      `redis://:${marker}@h?keyPrefix=x`,
      `redis://:${marker}@h/0?maxRetriesPerRequest=7`,
      `unix://${marker}/redis.sock`,
      `unix://:${marker}@localhost`
    ].map((value) => ["REDIS_URL", value] as const),
    ["REDIS_HOST", `h/${marker}`],
    ["REDIS_HOST", `user:${marker}@h`],
    ["REDIS_PORT", marker],
    ["REDIS_PORT", "0"],
    ["REDIS_PORT", "65536"],
    ["REDIS_PORT", "6379.5"],
    ["REDIS_DB", marker],
    ["REDIS_DB", "-1"],
    ["REDIS_TLS", marker],
    ["REDIS_TLS_CA", `/nowhere/${marker}`],
    ["REDIS_TLS_CERT", marker],
    ["REDIS_TLS_KEY", marker],
    ["REDIS_TLS_SERVERNAME", `${marker}/x`],
    ["REDIS_TLS_VERIFY", marker],
    ["REDIS_CONNECT_TIMEOUT", marker],
    ["REDIS_CONNECT_TIMEOUT", "0"],
    ["REDIS_COMMAND_TIMEOUT", "-5"],
    ["REDIS_COMMAND_TIMEOUT", "999999999 minutes"],
    ["SERVICE_NAME", `${marker}\uD800`]
  ])("refuses a malformed %s (%s), and names it without its value", ([name, value]) =>
    Effect.gen(function*() {
      const exit = yield* Effect.exit(read({ [name]: value }))
      assert.isTrue(Exit.isFailure(exit))
      assert.match(String(exit), new RegExp(`${name} is malformed: expected`))
      for (const text of [String(exit), inspect(exit, { depth: 20 }), JSON.stringify(exit)]) {
        assert.notInclude(text, marker)
      }
    }))

  it.effect("holds no credential in clear", () =>
    Effect.gen(function*() {
      const settings = yield* read({
        REDIS_URL: `redis://:${marker}@h`,
        REDIS_TLS: "1",
        REDIS_TLS_CERT: "-----BEGIN CERTIFICATE-----",
        REDIS_TLS_KEY: `-----BEGIN PRIVATE KEY-----\n${marker}`
      })
      for (const text of [inspect(settings, { depth: 20 }), JSON.stringify(settings)]) {
        assert.notInclude(text, marker)
      }
    }))
})

describe("RedisConfig.isConfigured", () => {
  it.effect.each<[Env, boolean]>([
    [{}, false],
    [{ REDIS_URL: "" }, false],
    [{ SERVICE_NAME: "x", REDIS_COMMAND_TIMEOUT: "1s" }, false],
    [{ REDIS_PORT: "tcp://10.0.0.7:6379" }, false],
    [{ REDIS_URL: "redis://h" }, true],
    [{ REDIS_HOST: "h" }, true],
    [{ REDIS_SENTINELS: "s1" }, true],
    [{ REDIS_CLUSTER_NODES: "h1" }, true],
    // It is there, though wrong: reading it fails, and nobody falls back.
    [{ REDIS_URL: "nonsense" }, true]
  ])("tells of %o: %s", ([env, expected]) =>
    Effect.map(
      Effect.provide(RedisConfig.isConfigured, from(env)),
      (configured) => assert.strictEqual(configured, expected)
    ))
})

describe("RedisConfig.isConfigured, where nothing says where Redis is,", () => {
  it.effect.each(["REDIS_PORT", "REDIS_USERNAME", "REDIS_PASSWORD", "REDIS_DB", "REDIS_TLS"])(
    "refuses %s, which somebody has set for a server",
    (name) =>
      Effect.gen(function*() {
        const exit = yield* Effect.exit(Effect.provide(RedisConfig.isConfigured, from({ [name]: marker })))
        assert.match(String(exit), new RegExp(`${name} is set, and nothing says where Redis is`))
        assert.notInclude(inspect(exit, { depth: 20 }), marker)
      })
  )
})

describe("RedisConfig.fromUrl", () => {
  it("fails with what is expected, and no part of the URL", () => {
    const result = RedisConfig.fromUrl(`redis://:${marker}@h:x`)
    assert.isTrue(Result.isFailure(result))
    assert.notInclude(inspect(result, { depth: 20 }), marker)
  })
})
