/** What is inferred of commands and the connection. */
import { describe, expectTypeOf, it } from "@effect/vitest"
import { type Config, Effect, type Layer, type Option, Schema, type Scope, type Stream } from "effect"
import type { ChainableCommander, Redis as IoRedis } from "ioredis"
import { Redis, RedisLive, type Undecodable } from "../../src/Redis.ts"
import { RedisClient, type ReservedClient } from "../../src/RedisClient.ts"
import * as RedisConfig from "../../src/RedisConfig.ts"
import type { InvalidInput, RedisError } from "../../src/RedisError.ts"
import * as RedisScript from "../../src/RedisScript.ts"

const User = Schema.Struct({ name: Schema.String, since: Schema.Date })
type User = typeof User.Type

describe("what is inferred of Redis", () => {
  it("values and errors", () => {
    type Shape = Redis["Service"]
    expectTypeOf<ReturnType<Shape["get"]>>().toEqualTypeOf<
      Effect.Effect<Option.Option<string>, InvalidInput | RedisError>
    >()
    const read = Effect.flatMap(Redis, ({ getJson }) => getJson("user", User))
    expectTypeOf(read).toEqualTypeOf<
      Effect.Effect<Option.Option<User>, InvalidInput | RedisError | Undecodable, Redis>
    >()
    expectTypeOf<ReturnType<Shape["scan"]>>().toEqualTypeOf<Stream.Stream<string, InvalidInput | RedisError>>()
  })

  it("a value that is not the schema's does not compile", () => {
    const right = Effect.flatMap(Redis, ({ setJson }) => setJson("user", User, { name: "Ada", since: new Date() }))
    expectTypeOf(right).toEqualTypeOf<Effect.Effect<boolean, InvalidInput | RedisError, Redis>>()
    // @ts-expect-error: `since` is a date
    void Effect.flatMap(Redis, ({ setJson }) => setJson("user", User, { name: "Ada", since: "today" }))
    // @ts-expect-error: a schema that needs services cannot be used here
    void Effect.flatMap(Redis, ({ getJson }) => getJson("user", Schema.String as Schema.Codec<string, string, Redis>))
  })

  it("what layers provide and need", () => {
    expectTypeOf(Redis.layer()).toEqualTypeOf<Layer.Layer<Redis | RedisClient, RedisError>>()
    expectTypeOf(Redis.layerConfig(RedisConfig.config)).toEqualTypeOf<
      Layer.Layer<Redis | RedisClient, RedisError | Config.ConfigError>
    >()
    expectTypeOf(Redis.layerMemory).toEqualTypeOf<Layer.Layer<Redis>>()
    expectTypeOf(Redis.layerClient).toEqualTypeOf<Layer.Layer<Redis, never, RedisClient>>()
    expectTypeOf(RedisLive).toEqualTypeOf<Layer.Layer<Redis | RedisClient, RedisError | Config.ConfigError>>()
    expectTypeOf(RedisClient.layer()).toEqualTypeOf<Layer.Layer<RedisClient, RedisError>>()
  })
})

describe("what is inferred of RedisClient", () => {
  type Shape = RedisClient["Service"]

  it("the results of calls", () => {
    const count = Effect.flatMap(RedisClient, ({ use }) => use("incr", (client) => client.incr("n")))
    expectTypeOf(count).toEqualTypeOf<Effect.Effect<number, RedisError, RedisClient>>()
    expectTypeOf<Shape["reserve"]>().toEqualTypeOf<Effect.Effect<ReservedClient, RedisError, Scope.Scope>>()
    expectTypeOf<Shape["raw"]>().toEqualTypeOf<IoRedis>()
    expectTypeOf<Parameters<Parameters<Shape["pipeline"]>[0]>[0]>().toEqualTypeOf<ChainableCommander>()
  })

  it("a blocking command compiles on a reserved connection only", () => {
    void Effect.flatMap(RedisClient, ({ use }) =>
      // @ts-expect-error: it would hold up everyone else
      use("blpop", (client) => client.blpop("list", 0)))
    const popped = Effect.flatMap(
      RedisClient,
      ({ reserve }) => Effect.flatMap(reserve, ({ use }) => use("blpop", (client) => client.blpop("list", 0)))
    )
    expectTypeOf(popped).toEqualTypeOf<Effect.Effect<[string, string] | null, RedisError, RedisClient | Scope.Scope>>()
  })

  it("a script's keys, arguments and reply", () => {
    const script = RedisScript.make({
      name: "test",
      keys: ["counter"],
      args: ["by"],
      rest: "more",
      result: Schema.BooleanFromBit,
      lua: "return 1"
    })
    const run = (values: Parameters<typeof call>[0]) => call(values)
    const call = (values: RedisScript.ScriptValues<"counter", "by", "more">) =>
      Effect.flatMap(RedisClient, (client) => client.script(script, values))
    expectTypeOf(run).returns.toEqualTypeOf<Effect.Effect<boolean, RedisError, RedisClient>>()
    void Effect.flatMap(RedisClient, (client) => client.script(script, { counter: "c", by: 1, more: ["a"] }))
    // @ts-expect-error: `by` is missing
    void Effect.flatMap(RedisClient, (client) => client.script(script, { counter: "c", more: [] }))
    // @ts-expect-error: the rest is a list
    void Effect.flatMap(RedisClient, (client) => client.script(script, { counter: "c", by: 1, more: "a" }))
  })
})
