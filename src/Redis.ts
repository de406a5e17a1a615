/** Everyday commands, typed, on keys within the namespace. */
import { type Config, Context, Duration, Effect, Layer, Option, Redacted, Result, Schema, Stream } from "effect"
import { type Codec, makeCodec, type WireSchema } from "./internal/codec.ts"
import { checkName } from "./internal/keys.ts"
import { clientEngine, type RedisEngine } from "./internal/redisEngine.ts"
import {
  checkCount,
  checkEntry,
  checkField,
  checkIncrement,
  checkSetting,
  checkTtl,
  checkValue,
  maxValueBytes,
  withChecked,
  withMany
} from "./internal/redisInput.ts"
import { memoryEngine } from "./internal/redisMemory.ts"
import { RedisClient } from "./RedisClient.ts"
import * as RedisConfig from "./RedisConfig.ts"
import type { InvalidInput, RedisError } from "./RedisError.ts"

export type { WireSchema } from "./internal/codec.ts"

/** What is stored under `key` is not what the schema says: by another version of the program, or by someone else. */
export class Undecodable extends Schema.TaggedError<Undecodable>()("Undecodable", {
  key: Schema.String,
  /** What is wrong with it, without the value. */
  problem: Schema.String,
  /** What is stored, hidden from logs. */
  payload: Schema.Redacted(Schema.String)
}) {
  override get message(): string {
    return `The value of "${this.key}" could not be decoded: ${this.problem}`
  }
}

/** How a value is set. */
export interface SetOptions {
  /** How long it stays, from 1 millisecond. Default: until it is deleted. */
  readonly ttl?: Duration.Input | undefined
  /** Leaves the key the time that it has, instead of making it stay. Not together with `ttl`. Default: false. */
  readonly keepTtl?: boolean | undefined
  /** Sets it only when there is no such key, or only when there is one. */
  readonly onlyIf?: "absent" | "present" | undefined
}

export interface ScanOptions {
  /** How many keys the server looks at in one go, from 1 to 10,000: more is faster, and holds it up longer. Default: 500. */
  readonly count?: number | undefined
}

type Run<A> = Effect.Effect<A, InvalidInput | RedisError>

/**
 * Everyday commands. `get("user:123")` reads the key `<namespace>:user:123`. Keys, fields and patterns are well-formed
 * texts of 1 to 512 bytes, values up to 16 MiB, and a call takes up to 10,000 keys or fields; anything else fails with
 * `InvalidInput` before it is sent. A read is sent again when its reply is lost. A write is not: it fails with the
 * outcome `Unknown` then, since it may have run.
 *
 * @example
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { Redis, RedisLive } from "effect-redis-kit"
 *
 * const User = Schema.Struct({ name: Schema.String, since: Schema.Date })
 *
 * const program = Effect.gen(function*() {
 *   const redis = yield* Redis
 *   yield* redis.setJson("user:123", User, { name: "Ada", since: new Date() }, { ttl: "1 hour" })
 *   yield* redis.incr("visits")
 *   return yield* redis.getJson("user:123", User)
 * })
 *
 * export const main = program.pipe(Effect.provide(RedisLive))
 * ```
 */
export class Redis extends Context.Service<Redis, {
  /** Spells a key as the server has it: `key("user", "123")` is `<namespace>:user:123`. */
  readonly key: (...parts: ReadonlyArray<string>) => string
  /** The value, or none when there is no such key. */
  readonly get: (key: string) => Run<Option.Option<string>>
  /** The values of many keys, in their order; none for what is no text. */
  readonly mget: (keys: ReadonlyArray<string>) => Run<ReadonlyArray<Option.Option<string>>>
  /** Stores a text, whatever was there. Tells whether it did, which is in doubt only with `onlyIf`. */
  readonly set: (key: string, value: string, options?: SetOptions) => Run<boolean>
  /** `get`, and deletes the key with it. */
  readonly getDel: (key: string) => Run<Option.Option<string>>
  /** Deletes one key or many. Tells how many there were. */
  readonly del: (keys: string | ReadonlyArray<string>) => Run<number>
  readonly exists: (key: string) => Run<boolean>
  /** Has a key go after `ttl`, from 1 millisecond. Tells whether there is such a key. */
  readonly expire: (key: string, ttl: Duration.Input) => Run<boolean>
  /** Has a key stay. Tells whether it would have gone. */
  readonly persist: (key: string) => Run<boolean>
  /** How long a key still stays: none when there is no such key, `Duration.infinity` when it does not expire. */
  readonly ttl: (key: string) => Run<Option.Option<Duration.Duration>>
  /** Adds 1 to a whole number, 0 when there is no such key, and tells the sum. */
  readonly incr: (key: string) => Run<number>
  /** Adds a whole number. Sums beyond 2^52 are stored exactly, but told only roughly. */
  readonly incrBy: (key: string, by: number) => Run<number>
  /** Takes 1 from a whole number. */
  readonly decr: (key: string) => Run<number>
  /** The value that `setJson` stored, or none when there is no such key. */
  readonly getJson: <A>(
    key: string,
    schema: WireSchema<A>
  ) => Effect.Effect<Option.Option<A>, InvalidInput | RedisError | Undecodable>
  /** `set`, of a value as JSON. */
  readonly setJson: <A>(key: string, schema: WireSchema<A>, value: A, options?: SetOptions) => Run<boolean>
  /** A field of a hash, or none when there is no such key or field. */
  readonly hget: (key: string, field: string) => Run<Option.Option<string>>
  /** Sets fields of a hash, and leaves its others. Tells how many are new. */
  readonly hset: (key: string, fields: Readonly<Record<string, string>>) => Run<number>
  /** All fields of a hash: no fields when there is no such key. */
  readonly hgetAll: (key: string) => Run<Readonly<Record<string, string>>>
  /** Deletes one field or many. Tells how many there were. The last one takes the hash along. */
  readonly hdel: (key: string, fields: string | ReadonlyArray<string>) => Run<number>
  /** Adds a whole number to a field, 0 when there is none, and tells the sum. */
  readonly hincrBy: (key: string, field: string, by: number) => Run<number>
  /**
   * All keys of the namespace, those of other services included, whose part after the namespace matches a glob pattern
   * (default: `*`). The server is not held up. Keys that are there all the while come at least once, now and then twice.
   */
  readonly scan: (pattern?: string, options?: ScanOptions) => Stream.Stream<string, InvalidInput | RedisError>
}>()("effect-redis-kit/Redis") {
  /** Connects, and fails when the server cannot be reached in time, unless `connect` is `background`. */
  static readonly layer = (settings: RedisConfig.RedisSettings = {}): Layer.Layer<Redis | RedisClient, RedisError> =>
    Layer.provideMerge(this.layerClient, RedisClient.layer(settings))

  /** `layer`, with settings read from `Config`. */
  static readonly layerConfig = (
    config: Config.Config<RedisConfig.RedisSettings>
  ): Layer.Layer<Redis | RedisClient, RedisError | Config.ConfigError> =>
    Layer.unwrap(Effect.map(config, (settings) => this.layer(settings)))

  /** On a connection that is there already. */
  static readonly layerClient: Layer.Layer<Redis, never, RedisClient> = Layer.effect(
    this,
    Effect.map(RedisClient, (client) => make(client.namespace, clientEngine(client)))
  )

  /** Keys of this program only, under Effect's Clock. */
  static readonly layerMemory: Layer.Layer<Redis> = Layer.sync(this, () => make("app", memoryEngine()))
}

/** `Redis` and `RedisClient` on the server that the environment names: see `RedisConfig.config`. */
export const RedisLive: Layer.Layer<Redis | RedisClient, RedisError | Config.ConfigError> = Redis.layerConfig(
  RedisConfig.config
)

const defaultCount = 500

const make = (namespace: string, engine: RedisEngine): Redis["Service"] => {
  const prefix = `${namespace}:`
  const codecs = new WeakMap<object, Codec<any>>()

  const codecOf = <A>(schema: WireSchema<A>): Codec<A> => {
    const known = codecs.get(schema)
    if (known !== undefined) return known
    const codec = makeCodec("value", schema, maxValueBytes)
    codecs.set(schema, codec)
    return codec
  }

  const spell = (key: string) => Result.map(checkName("key", key), (name) => prefix + name)

  const withKey = <A, E>(key: string, run: (spelled: string) => Effect.Effect<A, E>) => withChecked(spell(key), run)

  const read = (key: string): Run<Option.Option<string>> =>
    withKey(key, (spelled) => Effect.map(engine.get(spelled), Option.fromNullOr))

  const set = (key: string, value: string, options?: SetOptions): Run<boolean> =>
    withKey(
      key,
      (spelled) =>
        withChecked(
          checkValue(value),
          () => withChecked(checkSetting(options), (how) => engine.set(spelled, value, how))
        )
    )

  const incrBy = (key: string, by: number): Run<number> =>
    withKey(key, (spelled) => withChecked(checkIncrement(by), () => engine.incrBy(spelled, by)))

  return Redis.of({
    key: (...parts) => prefix + parts.join(":"),
    get: read,
    mget: (keys) =>
      withMany(
        "keys",
        keys,
        spell,
        [],
        (spelled) => Effect.map(engine.getMany(spelled), (values) => values.map(Option.fromNullOr))
      ),
    set,
    getDel: (key) => withKey(key, (spelled) => Effect.map(engine.getDel(spelled), Option.fromNullOr)),
    del: (keys) => withMany("keys", listOf(keys), spell, 0, engine.del),
    exists: (key) => withKey(key, engine.exists),
    expire: (key, ttl) =>
      withKey(key, (spelled) => withChecked(checkTtl(ttl), (millis) => engine.expire(spelled, millis))),
    persist: (key) => withKey(key, engine.persist),
    ttl: (key) => withKey(key, (spelled) => Effect.map(engine.ttl(spelled), timeLeft)),
    incr: (key) => incrBy(key, 1),
    incrBy,
    decr: (key) => incrBy(key, -1),
    getJson: <A>(key: string, schema: WireSchema<A>) =>
      Effect.flatMap(read(key), (text): Effect.Effect<Option.Option<A>, Undecodable> => {
        if (Option.isNone(text)) return Effect.succeedNone
        const decoded = codecOf(schema).decode(text.value)
        if (Result.isSuccess(decoded)) return Effect.succeedSome(decoded.success)
        const payload = Redacted.make(text.value)
        return Effect.fail(new Undecodable({ key, problem: decoded.failure.message, payload }))
      }),
    setJson: (key, schema, value, options) =>
      withChecked(codecOf(schema).encode(value), (text) => set(key, text, options)),
    hget: (key, field) =>
      withKey(
        key,
        (spelled) => withChecked(checkField(field), () => Effect.map(engine.hashGet(spelled, field), Option.fromNullOr))
      ),
    hset: (key, fields) =>
      withKey(
        key,
        (spelled) =>
          withMany("fields", Object.entries(fields), checkEntry, 0, (entries) => engine.hashSet(spelled, entries))
      ),
    hgetAll: (key) => withKey(key, engine.hashGetAll),
    hdel: (key, fields) =>
      withKey(
        key,
        (spelled) => withMany("fields", listOf(fields), checkField, 0, (names) => engine.hashDel(spelled, names))
      ),
    hincrBy: (key, field, by) =>
      withKey(
        key,
        (spelled) =>
          withChecked(checkField(field), () =>
            withChecked(checkIncrement(by), () => engine.hashIncrBy(spelled, field, by)))
      ),
    scan: (pattern = "*", { count = defaultCount } = {}) =>
      // A namespace holds no character that means something in a pattern: they are escaped there.
      Stream.unwrap(withChecked(checkName("pattern", pattern), () =>
        withChecked(checkCount(count), () =>
          Effect.succeed(Stream.paginate("0", (cursor) =>
            Effect.map(engine.scan(cursor, prefix + pattern, count), ([next, keys]) => {
              const names = Array.from(new Set(keys), (key) =>
                key.slice(prefix.length))
              return [names, next === "0" ? Option.none() : Option.some(next)] as const
            }))))))
  })
}

const listOf = (names: string | ReadonlyArray<string>) => typeof names === "string" ? [names] : names

const timeLeft = (millis: number): Option.Option<Duration.Duration> => {
  if (millis === -2) return Option.none()
  return Option.some(millis === -1 ? Duration.infinity : Duration.millis(millis))
}
