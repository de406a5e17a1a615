/** RedisClient: what the connection offers, on a server that is well. */
import { assert, describe, expectTypeOf, it, layer } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Layer, Option, Redacted, Result, Schema, Scope, Stream, Tracer } from "effect"
import { Redis as IoRedis } from "ioredis"
import { inspect } from "node:util"
import { type ConnectionState, RedisClient, type SharedClient } from "../src/RedisClient.ts"
import type { RedisSettings } from "../src/RedisConfig.ts"
import * as RedisScript from "../src/RedisScript.ts"
import { RedisServer } from "./support/redisServer.ts"
import { sharedRedisUrl, uniqueNamespace } from "./support/sharedRedis.ts"

const connected = (settings: RedisSettings = {}) =>
  RedisClient.layer({ url: sharedRedisUrl(), namespace: uniqueNamespace(), ...settings })

const Counted = RedisScript.make({
  name: "test.count",
  keys: ["counter"],
  args: ["by"],
  rest: "more",
  result: Schema.Tuple([Schema.Finite, Schema.Finite]),
  lua: `return { redis.call("INCRBY", counter, by), #more }`
})

layer(connected(), { excludeTestServices: true })("RedisClient", (it) => {
  it.effect("calls ioredis", () =>
    Effect.gen(function*() {
      const { key, use } = yield* RedisClient
      assert.strictEqual(yield* use("set", (client) => client.set(key("use"), "1")), "OK")
      assert.strictEqual(yield* use("get", (client) => client.get(key("use"))), "1")
    }))

  it.effect("answers many callers at once, each with its own", () =>
    Effect.gen(function*() {
      const { use } = yield* RedisClient
      const echoes = Array.from({ length: 2000 }, (_, i) => use("echo", (client) => client.echo(String(i))))
      const replies = yield* Effect.all(echoes, { concurrency: "unbounded" })
      assert.deepStrictEqual(replies, replies.map((_, i) => String(i)))
    }))

  it.effect("tells what the server refuses, without the arguments", () =>
    Effect.gen(function*() {
      const { key, use } = yield* RedisClient
      yield* use("set", (client) => client.set(key("text"), "x"))
      const wrong = yield* Effect.flip(use("lpush", (client) => client.lpush(key("text"), "s3cr3t")))
      assert.deepInclude(wrong, { command: "lpush", reason: "wrong-type", outcome: "Rejected" })
      const unknown = yield* Effect.flip(use("odd", (client) => client.call("NOSUCH", "s3cr3t", "s3cr3t")))
      assert.deepInclude(unknown, { reason: "reply", outcome: "Rejected" })
      for (const error of [wrong, unknown]) {
        assert.notInclude(`${inspect(error, { depth: 20, showHidden: true })} ${JSON.stringify(error)}`, "s3cr3t")
      }
    }))

  it.effect("tells that the function given to it failed, without its words", () =>
    Effect.gen(function*() {
      const { use } = yield* RedisClient
      const thrown = yield* Effect.flip(use("parse", () => JSON.parse("s3cr3t")))
      assert.deepInclude(thrown, { reason: "reply", outcome: "NotSent" })
      const late = yield* Effect.flip(use("parse", (client) => client.echo("s3cr3t").then((text) => JSON.parse(text))))
      assert.deepInclude(late, { reason: "reply", outcome: "Unknown" })
      for (const error of [thrown, late]) {
        assert.include(error.message, "SyntaxError")
        assert.notInclude(inspect(error, { depth: 20 }), "s3cr3t")
      }
      // Nor does a promise that is none break anything.
      const none = yield* Effect.flip(use("none", () => undefined as unknown as Promise<void>))
      assert.strictEqual(none.reason, "reply")
    }))

  it.effect("sends many commands at once, each with its own result", () =>
    Effect.gen(function*() {
      const { key, pipeline } = yield* RedisClient
      const results = yield* pipeline((commands) =>
        commands.set(key("p"), "1").lpush(key("p"), "s3cr3t").incr(key("p")).get(key("none"))
      )
      assert.deepStrictEqual(
        results.map((result) => Result.isSuccess(result) ? result.success : result.failure.reason),
        [
          "OK",
          "wrong-type",
          2,
          null
        ]
      )
      assert.notInclude(inspect(results, { depth: 20 }), "s3cr3t")
      assert.deepStrictEqual(yield* pipeline((commands) => commands), [])
    }))

  it.effect("runs a transaction as one", () =>
    Effect.gen(function*() {
      const { key, multi, use } = yield* RedisClient
      assert.deepStrictEqual(yield* multi((commands) => commands.incr(key("m")).incr(key("m"))), [1, 2])
      const late = yield* Effect.flip(multi((commands) => commands.incr(key("m")).lpush(key("m"), "s3cr3t")))
      assert.deepInclude(late, { command: "multi", reason: "wrong-type", outcome: "Rejected" })
      assert.strictEqual(yield* use("get", (client) => client.get(key("m"))), "3")
      const early = yield* Effect.flip(multi((commands) => commands.incr(key("m")).call("NOSUCH", "s3cr3t")))
      assert.deepInclude(early, { command: "multi", reason: "reply", outcome: "Rejected" })
      assert.match(early.detail, /unknown command/)
      assert.strictEqual(yield* use("get", (client) => client.get(key("m"))), "3")
      assert.notInclude(inspect([late, early], { depth: 20 }), "s3cr3t")
    }))

  it.effect("spells keys within the namespace", () =>
    Effect.gen(function*() {
      const { key, namespace } = yield* RedisClient
      assert.strictEqual(key("user", "123"), `${namespace}:user:123`)
    }))

  it.effect("reads the server's INFO as fields", () =>
    Effect.gen(function*() {
      const { info } = yield* RedisClient
      const server = yield* info("server")
      assert.match(server["redis_version"] ?? "", /^\d+\.\d+/)
      assert.isUndefined(server["used_memory"])
      assert.property(yield* info(), "used_memory")
    }))

  it.effect("scans with ioredis' streams over the raw client", () =>
    Effect.gen(function*() {
      const { key, raw, use } = yield* RedisClient
      yield* use("mset", (client) => client.mset(key("scanned", "1"), "x", key("scanned", "2"), "x"))
      const pages = Stream.fromAsyncIterable(raw.scanStream({ match: key("scanned", "*"), count: 1000 }), String)
      const keys = (yield* Stream.runCollect(pages)).flat()
      assert.sameMembers(keys, [key("scanned", "1"), key("scanned", "2")])
    }))

  it.effect("fails at the deadline that a call was given", () =>
    Effect.gen(function*() {
      const { use } = yield* RedisClient
      const never = use("never", () => new Promise<void>(() => {}), { timeout: "30 millis" })
      const error = yield* Effect.flip(never)
      assert.deepInclude(error, { command: "never", reason: "timeout", outcome: "Unknown" })
    }))

  it.effect("forgets a call that is interrupted", () =>
    Effect.gen(function*() {
      const { use } = yield* RedisClient
      const fiber = yield* Effect.forkChild(use("never", () => new Promise<void>(() => {})), { startImmediately: true })
      yield* Fiber.interrupt(fiber)
      assert.strictEqual(yield* use("ping", (client) => client.ping()), "PONG")
    }))
})

describe("use", () => {
  it("has no command that blocks the connection or changes its mode, by type", () => {
    expectTypeOf<SharedClient>().toHaveProperty("get")
    expectTypeOf<SharedClient>().toHaveProperty("xadd")
    for (
      const _name of ["blpop", "brpop", "blmove", "bzpopmin", "xread", "xreadgroup", "wait", "watch", "multi"] as const
    ) {
      expectTypeOf<SharedClient>().not.toHaveProperty<typeof _name>(_name)
    }
    expectTypeOf<SharedClient>().not.toHaveProperty("subscribe")
    expectTypeOf<SharedClient>().not.toHaveProperty("monitor")
    expectTypeOf<SharedClient>().not.toHaveProperty("select")
    expectTypeOf<SharedClient>().not.toHaveProperty("quit")
    expectTypeOf<SharedClient>().not.toHaveProperty("blpopBuffer")
  })
})

describe("script", () => {
  it.live("runs by its hash, also after SCRIPT FLUSH and a restart", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      yield* Effect.gen(function*() {
        const { script, use } = yield* RedisClient
        const run = script(Counted, { counter: "n", by: 2, more: ["a", "b"] })
        assert.deepStrictEqual(yield* run, [2, 2])
        assert.deepStrictEqual(yield* run, [4, 2])
        yield* use("flush", (client) => client.script("FLUSH"))
        assert.deepStrictEqual(yield* run, [6, 2])
        const stats = String(yield* server.cli("INFO", "commandstats"))
        assert.match(stats, /cmdstat_eval:calls=2/)
        yield* server.restart
        // Each may meet the restart: a script is no read.
        const afterwards = yield* Effect.retry(run, { while: (error) => error.outcome !== "Rejected", times: 5 })
        assert.strictEqual(afterwards[0] % 2, 0)
      }).pipe(Effect.provide(RedisClient.layer({ url: server.url })))
    }).pipe(Effect.scoped))

  it.live("takes as many further arguments as one gives it", () =>
    Effect.gen(function*() {
      const { key, script } = yield* RedisClient
      const more = Array.from({ length: 20_000 }, (_, i) => i)
      assert.deepStrictEqual(yield* script(Counted, { counter: key("n"), by: 1, more }), [1, 20_000])
    }).pipe(Effect.provide(connected())))

  it.live("can be sent in full within a transaction, where a missing hash would not stop the rest", () =>
    Effect.gen(function*() {
      const { key, multi, script, use } = yield* RedisClient
      const { lua, sha } = Counted.text(0)
      yield* use("flush", (client) => client.script("FLUSH"))
      const replies = yield* multi((commands) => commands.set(key("n"), "5").eval(lua, 1, key("n"), 1))
      assert.deepStrictEqual(replies, ["OK", [6, 0]])
      assert.deepStrictEqual(yield* use("exists", (client) => client.script("EXISTS", sha)), [1])
      assert.deepStrictEqual(yield* script(Counted, { counter: key("n"), by: 1, more: [] }), [7, 0])
    }).pipe(Effect.provide(connected())))

  it.live("tells when it fails, is refused, or replies something else", () =>
    Effect.gen(function*() {
      const { key, script, use } = yield* RedisClient
      const failing = RedisScript.make({ name: "test.fail", keys: ["k"], result: Schema.String, lua: "return nope(k)" })
      const failed = yield* Effect.flip(script(failing, { k: key("a") }))
      assert.deepInclude(failed, { command: "test.fail", reason: "script", outcome: "Rejected" })
      yield* use("set", (client) => client.set(key("a"), "text"))
      const pushing = RedisScript.make({
        name: "test.push",
        keys: ["k"],
        result: Schema.String,
        lua: `return redis.call("LPUSH", k, "x")`
      })
      assert.strictEqual((yield* Effect.flip(script(pushing, { k: key("a") }))).reason, "wrong-type")
      const odd = RedisScript.make({ name: "test.odd", keys: ["k"], result: Schema.String, lua: "return {1}" })
      assert.strictEqual((yield* Effect.flip(script(odd, { k: key("a") }))).reason, "reply")
    }).pipe(Effect.provide(connected())))
})

describe("reserve", () => {
  it.live("is a connection of one's own, which may block, watch and run transactions", () =>
    Effect.gen(function*() {
      const { key, reserve, use } = yield* RedisClient
      const own = yield* reserve
      const popped = yield* Effect.forkChild(own.use("blpop", (client) => client.blpop(key("list"), 0)), {
        startImmediately: true
      })
      // The shared connection is not held up.
      assert.strictEqual(yield* use("rpush", (client) => client.rpush(key("list"), "x")), 1)
      assert.deepStrictEqual(yield* Fiber.join(popped), [key("list"), "x"])
      yield* own.use("watch", (client) => client.watch(key("watched")))
      yield* use("set", (client) => client.set(key("watched"), "1"))
      const lost = yield* own.use("exec", (client) => client.multi().set(key("watched"), "2").exec())
      assert.isNull(lost)
    }).pipe(Effect.scoped, Effect.provide(connected())))

  it.live("takes nothing for nobody when a blocking call is interrupted or late", () =>
    Effect.gen(function*() {
      const { key, reserve, use } = yield* RedisClient
      const own = yield* reserve
      const id = own.use("id", (client) => client.client("ID"))
      const first = yield* id
      const blocked = yield* Effect.forkChild(own.use("blpop", (client) => client.blpop(key("l"), 0)), {
        startImmediately: true
      })
      yield* Effect.sleep("20 millis")
      yield* Fiber.interrupt(blocked)
      const second = yield* id
      assert.notStrictEqual(second, first)
      const late = yield* Effect.flip(own.use("blpop", (client) => client.blpop(key("l"), 0), { timeout: "30 millis" }))
      assert.deepInclude(late, { reason: "timeout", outcome: "Unknown" })
      assert.notStrictEqual(yield* id, second)
      yield* use("rpush", (client) => client.rpush(key("l"), "x"))
      assert.deepStrictEqual(yield* own.use("lpop", (client) => client.lpop(key("l"))), "x")
    }).pipe(Effect.scoped, Effect.provide(connected())))

  it.live("waits for a free connection, and fails when none comes free in time", () =>
    Effect.gen(function*() {
      const { reserve } = yield* RedisClient
      const scope = yield* Scope.make()
      yield* Scope.provide(reserve, scope)
      const error = yield* Effect.flip(Effect.scoped(reserve))
      assert.deepInclude(error, { command: "reserve", reason: "connection", outcome: "NotSent" })
      assert.include(error.detail, "all 1 reserved connections are in use")
      const waiting = yield* Effect.forkChild(
        Effect.scoped(Effect.flatMap(reserve, ({ use }) => use("ping", (client) => client.ping()))),
        { startImmediately: true }
      )
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(yield* Fiber.join(waiting), "PONG")
      // One that was given up while it waited holds none.
      const other = yield* Scope.make()
      yield* Scope.provide(reserve, other)
      const given = yield* Effect.forkChild(Effect.scoped(reserve), { startImmediately: true })
      yield* Fiber.interrupt(given)
      yield* Scope.close(other, Exit.void)
      yield* Effect.scoped(reserve)
    }).pipe(Effect.provide(connected({ maxReserved: 1, commandTimeout: "150 millis" }))))

  it.live("gives its place back when it cannot connect, and its connection with the scope", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      yield* Effect.gen(function*() {
        const { reserve, use } = yield* RedisClient
        yield* Effect.scoped(Effect.gen(function*() {
          yield* reserve
          assert.lengthOf(yield* server.clients(), 2)
          yield* use("config", (client) => client.config("SET", "maxclients", 1))
          for (let i = 0; i < 3; i++) yield* Effect.flip(reserve)
          yield* use("config", (client) => client.config("SET", "maxclients", 100))
          yield* reserve
        }))
        assert.lengthOf(yield* server.clients(), 1)
      }).pipe(
        Effect.provide(RedisClient.layer({ url: server.url, maxReserved: 2, commandTimeout: "200 millis" }))
      )
    }).pipe(Effect.scoped))
})

describe("duplicate", () => {
  it.live("is a raw client with ioredis' defaults and one's own options, closed with the scope", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start({ password: "pass word" })
      yield* Effect.gen(function*() {
        const { duplicate } = yield* RedisClient
        yield* Effect.scoped(Effect.gen(function*() {
          const client = yield* duplicate({ maxRetriesPerRequest: null, connectionName: "bull" })
          assert.instanceOf(client, IoRedis)
          assert.strictEqual(client.status, "ready")
          assert.isTrue(client.options.enableOfflineQueue)
          assert.isTrue(client.options.autoResubscribe)
          assert.isNull(client.options.maxRetriesPerRequest)
          assert.strictEqual(yield* Effect.promise(() => client.ping()), "PONG")
          assert.lengthOf(yield* server.clients(({ name }) => name === "bull"), 1)
          const subscriber = yield* duplicate()
          yield* Effect.promise(() => subscriber.subscribe("news"))
          yield* Effect.promise(() => client.call("CLIENT", "KILL", "TYPE", "pubsub"))
          // Left to itself, it resubscribes.
          while ((yield* Effect.promise(() => client.publish("news", "x"))) === 0) yield* Effect.sleep("5 millis")
        }))
        assert.lengthOf(yield* server.clients(), 1)
      }).pipe(Effect.provide(RedisClient.layer({ url: server.url })))
    }).pipe(Effect.scoped))

  it.live("fails when the server cannot be reached, and leaves nothing behind", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      yield* server.kill()
      yield* Effect.gen(function*() {
        const { duplicate } = yield* RedisClient
        const error = yield* Effect.flip(duplicate())
        assert.deepInclude(error, { command: "duplicate", reason: "connection", outcome: "NotSent" })
        assert.match(error.detail, /ECONNREFUSED/)
      }).pipe(Effect.provide(RedisClient.layer({ url: server.url, connect: "background" })))
    }).pipe(Effect.scoped))
})

describe("states", () => {
  it.live("begin with now, count epochs, and end when the connection is closed", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(connected(), scope)
      const client = yield* Effect.provide(RedisClient, context)
      const seen: Array<ConnectionState> = []
      const watching = yield* Effect.forkChild(
        Stream.runForEach(client.states, (state) => Effect.sync(() => seen.push(state))),
        { startImmediately: true }
      )
      const until = (tag: ConnectionState["_tag"], epoch: number) =>
        Effect.repeat(Effect.sleep("2 millis"), {
          until: () => seen.some((state) => state._tag === tag && state.epoch === epoch)
        })
      const kill = Effect.gen(function*() {
        const id = yield* client.use("id", (raw) => raw.client("ID"), { repeatable: true })
        yield* Effect.ignore(client.use("kill", (raw) => raw.call("CLIENT", "KILL", "ID", id, "SKIPME", "no")))
      })
      yield* until("Ready", 1)
      yield* kill
      yield* until("Ready", 2)
      yield* kill
      yield* until("Ready", 3)
      yield* Scope.close(scope, Exit.void)
      yield* Fiber.join(watching)
      assert.deepStrictEqual(seen.map(({ _tag, epoch }) => `${_tag} ${epoch}`), [
        "Ready 1",
        "Disconnected 1",
        "Connecting 1",
        "Ready 2",
        "Disconnected 2",
        "Connecting 2",
        "Ready 3",
        "Closed 3"
      ])
      // Whoever looks later sees that it is closed.
      const last = yield* Stream.runCollect(client.states)
      assert.deepStrictEqual(last.map(({ _tag }) => _tag), ["Closed"])
    }))
})

describe("subscribe", () => {
  it.live("opens one connection for all who come at once, and closes it after the last", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      const subscribers = server.clients(({ name }) => name?.endsWith(":subscriptions") === true)
      yield* Effect.gen(function*() {
        const { subscribe, use } = yield* RedisClient
        const heard: Array<string> = []
        const listen = (kind: "channel" | "pattern", name: string, as: string) =>
          subscribe(kind, name, { onMessage: (message, channel) => heard.push(`${as} ${channel} ${message}`) })
        assert.lengthOf(yield* subscribers, 0)
        for (let round = 0; round < 3; round++) {
          yield* Effect.scoped(Effect.gen(function*() {
            yield* Effect.all([
              listen("channel", "a", "1"),
              listen("channel", "a", "2"),
              listen("channel", "b", "3"),
              listen("pattern", "*", "4")
            ], { concurrency: "unbounded" })
            assert.lengthOf(yield* subscribers, 1)
            assert.deepStrictEqual(yield* server.cli("PUBSUB", "NUMSUB", "a", "b"), ["a", 1, "b", 1])
            heard.length = 0
            assert.strictEqual(yield* use("publish", (client) => client.publish("a", "x")), 2)
            while (heard.length < 3) yield* Effect.sleep("1 millis")
            assert.sameMembers(heard, ["1 a x", "2 a x", "4 a x"])
          }))
          assert.lengthOf(yield* subscribers, 0)
        }
      }).pipe(Effect.provide(RedisClient.layer({ url: server.url })))
    }).pipe(Effect.scoped))

  it.live("stays subscribed when one comes while the last leaves", () =>
    Effect.gen(function*() {
      const { key, subscribe, use } = yield* RedisClient
      const publish = (channel: string) => use("publish", (client) => client.publish(channel, "x"))
      yield* Effect.scoped(Effect.gen(function*() {
        // One other subscription keeps the connection in the second half.
        for (let round = 0; round < 40; round++) {
          if (round === 20) yield* subscribe("channel", key("other"), { onMessage: () => {} })
          const first = yield* Scope.make()
          const second = yield* Scope.make()
          const heard: Array<string> = []
          yield* Scope.provide(subscribe("channel", key("race"), { onMessage: () => {} }), first)
          yield* Effect.all([
            Scope.close(first, Exit.void),
            Scope.provide(subscribe("channel", key("race"), { onMessage: (message) => heard.push(message) }), second)
          ], { concurrency: "unbounded" })
          assert.strictEqual(yield* publish(key("race")), 1)
          while (heard.length === 0) yield* Effect.sleep("1 millis")
          yield* Scope.close(second, Exit.void)
          assert.deepStrictEqual(heard, ["x"])
          assert.strictEqual(yield* publish(key("race")), 0)
        }
      }))
    }).pipe(Effect.provide(connected())))

  it.live("leaves nothing behind when the server refuses", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start({ acl: ["app on >pw ~* resetchannels &ok +@all"] })
      yield* Effect.gen(function*() {
        const { subscribe } = yield* RedisClient
        const listener = { onMessage: () => {} }
        yield* Effect.scoped(Effect.gen(function*() {
          const error = yield* Effect.flip(subscribe("channel", "forbidden", listener))
          assert.deepInclude(error, { command: "subscribe", reason: "no-permission", outcome: "Rejected" })
          assert.match(error.detail, /; ACL LOG .* docs\/security\.md/)
          assert.lengthOf(yield* server.clients(), 1)
          yield* subscribe("channel", "ok", listener)
        }))
      }).pipe(
        Effect.provide(
          RedisClient.layer({ host: server.host, port: server.port, username: "app", password: Redacted.make("pw") })
        )
      )
    }).pipe(Effect.scoped))
})

describe("spans", () => {
  it.live("are made only when there is a tracer, and hold no value", () =>
    Effect.gen(function*() {
      const spans: Array<Tracer.NativeSpan> = []
      const tracer = Tracer.make({
        span: (options) => {
          const span = new Tracer.NativeSpan(options)
          spans.push(span)
          return span
        }
      })
      const { key, pipeline, script, use } = yield* RedisClient
      const get = use("get", (client) => client.get(key("s3cr3t")))
      yield* get
      assert.lengthOf(spans, 0)
      yield* Effect.gen(function*() {
        yield* use("set", (client) => client.set(key("s3cr3t"), "s3cr3t"))
        yield* get
        yield* pipeline((commands) => commands.get(key("s3cr3t")))
        yield* script(Counted, { counter: key("n"), by: 1, more: ["s3cr3t"] })
        yield* Effect.exit(use("lpush", (client) => client.lpush(key("s3cr3t"), "s3cr3t")))
      }).pipe(Effect.withTracer(tracer))
      assert.deepStrictEqual(spans.map(({ name }) => name), [
        "redis set",
        "redis get",
        "redis pipeline",
        "redis test.count",
        "redis lpush"
      ])
      for (const { attributes, kind, name } of spans) {
        assert.strictEqual(kind, "client")
        assert.strictEqual(attributes.get("db.system.name"), "redis")
        assert.strictEqual(`redis ${String(attributes.get("db.operation.name"))}`, name)
        assert.strictEqual(attributes.get("db.namespace"), "0")
        assert.strictEqual(attributes.get("server.address"), "127.0.0.1")
        assert.isNumber(attributes.get("server.port"))
      }
      const exported = spans.map(({ attributes, name, status }) => [
        name,
        attributes,
        status._tag === "Ended" && Exit.isFailure(status.exit) ? status.exit.cause : undefined
      ])
      assert.notInclude(inspect(exported, { depth: 20 }), "s3cr3t")
    }).pipe(Effect.provide(connected())))
})

describe("settings", () => {
  it.live.each<[string, RedisSettings]>([
    ["a timeout of zero", { commandTimeout: 0 }],
    ["an infinite timeout", { connectTimeout: Infinity }],
    ["a port that is none", { port: 65_536 }],
    ["a database that is none", { db: 1.5 }],
    ["an empty namespace", { namespace: "" }],
    ["half a surrogate pair", { namespace: "\uD800" }],
    ["a malformed URL", { url: "redis://:s3cr3t@h:x" }]
  ])("are refused when they make no sense: %s", ([, settings]) =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Effect.provide(RedisClient, RedisClient.layer(settings)))
      assert.deepInclude(error, { command: "connect", outcome: "NotSent" })
      assert.notInclude(inspect(error, { depth: 20 }), "s3cr3t")
    }))

  it.live("choose the database, the unix socket and the connection's name", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start({ unixSocket: true })
      for (const url of [`${server.url}/3`, `unix://${server.unix}?db=3`]) {
        yield* Effect.gen(function*() {
          const { use } = yield* RedisClient
          yield* use("set", (client) => client.set("a", "1"))
          const clients = yield* server.clients()
          assert.deepStrictEqual(clients.map(({ db, name }) => [db, name]), [["3", "my%20app:commands"]])
        }).pipe(Effect.provide(RedisClient.layer({ url, namespace: "my app" })))
      }
      assert.match(String(yield* server.cli("INFO", "keyspace")), /db3:keys=1/)
      const error = yield* Effect.flip(Effect.provide(RedisClient, RedisClient.layer({ url: `${server.url}/99` })))
      assert.deepInclude(error, { command: "connect", reason: "reply", outcome: "Rejected" })
      assert.match(error.detail, /DB index is out of range/)
    }).pipe(Effect.scoped))

  it.live("let no duration be waited for longer than it says", () =>
    Effect.gen(function*() {
      const { use } = yield* RedisClient
      const begin = performance.now()
      const forever = use("never", () => new Promise<void>(() => {}), { timeout: Duration.infinity })
      assert.deepStrictEqual(yield* Effect.timeoutOption(forever, "20 millis"), Option.none())
      const error = yield* Effect.flip(use("never", () => new Promise<void>(() => {})))
      assert.strictEqual(error.reason, "timeout")
      assert.isBelow(performance.now() - begin, 1000)
    }).pipe(Effect.provide(connected({ commandTimeout: "50 millis" }))))
})
