// Everyday commands: texts, JSON with a schema, counters, hashes, scanning. Runs on memory, and on Redis with REDIS_URL.
import { Console, DateTime, Effect, Layer, Logger, Option, Schema, Stream } from "effect"
import { Redis, ServicesAuto } from "effect-redis-kit"

const User = Schema.Struct({ name: Schema.String, since: Schema.DateTimeUtc })

const program = Effect.gen(function*() {
  const redis = yield* Redis

  yield* redis.set("greeting", "hello", { ttl: "1 minute" })
  yield* Console.log("text:", Option.getOrElse(yield* redis.get("greeting"), () => "nothing"))
  yield* Console.log("set again, only if absent:", yield* redis.set("greeting", "hi", { onlyIf: "absent" }))

  const since = yield* DateTime.now
  yield* redis.setJson("user:1", User, { name: "Ada", since }, { ttl: "1 hour" })
  const user = yield* redis.getJson("user:1", User)
  yield* Console.log("user:", Option.map(user, ({ name }) => name).pipe(Option.getOrElse(() => "nobody")))

  yield* redis.incr("visits")
  yield* Console.log("visits:", yield* redis.incrBy("visits", 41))

  yield* redis.hset("cart:1", { apples: "3", pears: "5" })
  yield* Console.log("cart:", JSON.stringify(yield* redis.hgetAll("cart:1")))

  const users = yield* Stream.runCollect(redis.scan("user:*"))
  yield* Console.log("keys:", users.join(", "))
  yield* Console.log("deleted:", yield* redis.del(["greeting", "user:1", "visits", "cart:1"]))
})

// The log goes to stderr, so that stdout is the same on every engine.
await Effect.runPromise(program.pipe(
  Effect.provide(ServicesAuto.pipe(Layer.provideMerge(Layer.succeed(Logger.LogToStderr, true))))
))
