/** Rate limits that all processes count together: several on one subject decided at once, in one round trip. */
import { Config, Context, Duration, Effect, Layer, Metric, Result, Schema } from "effect"
import { checkMillis } from "./internal/duration.ts"
import { checkName } from "./internal/keys.ts"
import { type LimitEngine, redisEngine } from "./internal/rateLimitEngine.ts"
import { makeLines } from "./internal/rateLimitLine.ts"
import { memoryEngine } from "./internal/rateLimitMemory.ts"
import { checkPolicy, makeOutage, type OnUnavailable, outageMillis } from "./internal/rateLimitOutage.ts"
import { type KnownLimit, knownLimits, shareOf } from "./internal/rateLimitState.ts"
import { judge, uncounted, type Verdict } from "./internal/rateLimitVerdict.ts"
import { traced } from "./internal/span.ts"
import type { RateLimit } from "./RateLimit.ts"
import { RedisClient } from "./RedisClient.ts"
import { InvalidInput, type RedisError } from "./RedisError.ts"

export type { OnUnavailable } from "./internal/rateLimitOutage.ts"
export type { LimitVerdict, Verdict } from "./internal/rateLimitVerdict.ts"

/** `limit` is used up for now, and the call did not want to wait for as long as `retryAfter`. It has used nothing. */
export class RateLimited extends Schema.TaggedError<RateLimited>()("RateLimited", {
  /** The name of the limit that bound. */
  limit: Schema.String,
  capacity: Schema.Finite,
  remaining: Schema.Finite,
  retryAfter: Schema.Duration,
  resetAfter: Schema.Duration,
  /** Whether Redis was away, so that this process decided alone. */
  degraded: Schema.Boolean
}) {
  override get message(): string {
    return `Limit "${this.limit}" is used up for ${Duration.toMillis(this.retryAfter)} ms`
  }
}

/** `cost` is more than `limit` ever lets pass at once: waiting would not help. */
export class CostAboveLimit extends Schema.TaggedError<CostAboveLimit>()("CostAboveLimit", {
  limit: Schema.String,
  capacity: Schema.Finite,
  cost: Schema.Finite
}) {
  override get message(): string {
    return `A cost of ${this.cost} never passes limit "${this.limit}", which allows ${this.capacity} at once`
  }
}

export interface RateLimiterOptions {
  /**
   * Default: `fail`, since only the program knows what harms it more, calls that nobody counts or calls that nobody
   * lets pass. Anything else asks Redis again once a second until it is back.
   */
  readonly onUnavailable?: OnUnavailable | undefined
  /** How long Redis may take to decide before it counts as away. Default: the connection's `commandTimeout`. */
  readonly timeout?: Duration.Input | undefined
}

export interface CheckOptions {
  /** How much of the limit it takes; may have a fraction. Default: 1. */
  readonly cost?: number | undefined
  /** What to do while Redis is away, when it is not what the layer says. */
  readonly onUnavailable?: OnUnavailable | undefined
}

export interface LimitOptions extends CheckOptions {
  /**
   * How long to wait for a turn. Those who wait in one process pass in the order in which they came; processes compete.
   * Fails as soon as it is clear that it would take longer. At most a day. Default: 0, do not wait.
   */
  readonly wait?: Duration.Input | undefined
}

/** One limit, or up to 16 with different names. */
export type Limits = RateLimit | ReadonlyArray<RateLimit>

/** Why a limiter cannot tell: bad input, a cost that can never pass, or Redis. */
export type RateLimiterError = InvalidInput | CostAboveLimit | RedisError

/**
 * Counts calls against limits per subject, like a client, a tenant or an address. Time is the server's. A call takes its
 * cost from all its limits or from none, so a rejected one uses up nothing.
 *
 * @example
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { RateLimit, RateLimiter, RateLimiterLive, RedisLive } from "effect-redis-kit"
 *
 * const limits = [
 *   RateLimit.gcra({ name: "second", limit: 10, period: "1 second", burst: 5 }),
 *   RateLimit.fixedWindow({ name: "day", limit: 10_000, window: "1 day" })
 * ]
 *
 * const program = Effect.gen(function*() {
 *   const limiter = yield* RateLimiter
 *   const verdict = yield* limiter.check(limits, "client-1")
 *   yield* Effect.log(verdict.allowed ? `${verdict.remaining} left` : `${verdict.limit} is used up`)
 *   return yield* Effect.succeed("done").pipe(limiter.limit(limits, "client-1", { wait: "2 seconds" }))
 * })
 *
 * export const main = program.pipe(Effect.provide(RateLimiterLive.pipe(Layer.provide(RedisLive))))
 * ```
 */
export class RateLimiter extends Context.Service<RateLimiter, {
  /** Takes the cost from all limits of `subject`, or from none, and tells which; a denial is a verdict, not an error. */
  readonly check: (
    limits: Limits,
    subject: string,
    options?: CheckOptions
  ) => Effect.Effect<Verdict, RateLimiterError>
  /** What `check` would say now. Takes nothing. */
  readonly peek: (
    limits: Limits,
    subject: string,
    options?: CheckOptions
  ) => Effect.Effect<Verdict, RateLimiterError>
  /** Forgets what `subject` has used of these limits. Fails with RedisError while Redis is away. */
  readonly reset: (limits: Limits, subject: string) => Effect.Effect<void, InvalidInput | RedisError>
  /**
   * Runs an effect when the limits let it pass: at once, or after its turn has come. Otherwise fails with RateLimited.
   * Interruption while it waits takes nothing; the cost of an effect that has begun stays taken.
   */
  readonly limit: (
    limits: Limits,
    subject: string,
    options?: LimitOptions
  ) => <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | RateLimited | RateLimiterError, R>
}>()("effect-redis-kit/RateLimiter") {
  /** Limits that all processes on this Redis count together. Fails when an option is out of range. */
  static readonly layer = (options: RateLimiterOptions = {}): Layer.Layer<RateLimiter, InvalidInput, RedisClient> =>
    Layer.effect(this, Effect.flatMap(Effect.fromResult(settingsOf(options)), makeLive))

  /** `layer` with options read from the configuration. */
  static readonly layerConfig = (
    options: Config.Wrap<RateLimiterOptions>
  ): Layer.Layer<RateLimiter, InvalidInput | Config.ConfigError, RedisClient> =>
    Layer.unwrap(Effect.map(Config.unwrap(options), (options) => this.layer(options)))

  /** Limits within this process, under Effect's Clock. */
  static readonly layerMemory: Layer.Layer<RateLimiter> = Layer.sync(this, () => make(memoryEngine(), defaults))
}

/** Limits on Redis with the default options. */
export const RateLimiterLive: Layer.Layer<RateLimiter, never, RedisClient> = Layer.effect(
  RateLimiter,
  Effect.suspend(() => makeLive(defaults))
)

const hourMillis = 3_600_000

/** Options, checked. */
interface Settings {
  readonly onUnavailable: OnUnavailable
  /** Undefined when the connection says. */
  readonly timeoutMillis: number | undefined
}

const defaults: Settings = { onUnavailable: "fail", timeoutMillis: undefined }

const settingsOf = ({ onUnavailable = defaults.onUnavailable, timeout }: RateLimiterOptions) =>
  Result.map(
    Result.all([
      checkPolicy(onUnavailable),
      timeout === undefined ? Result.succeed(undefined) : checkMillis("rate limiter timeout", timeout, 1, hourMillis)
    ]),
    ([onUnavailable, timeoutMillis]): Settings => ({ onUnavailable, timeoutMillis })
  )

const makeLive = (settings: Settings) =>
  Effect.map(RedisClient, (client) => make(redisEngine(client, settings.timeoutMillis), settings))

const denials = Metric.counter("redis_ratelimit_denied", {
  description: "Calls that a limit denied",
  incremental: true
})
const degradations = Metric.counter("redis_ratelimit_degraded", {
  description: "Calls that were decided without Redis",
  incremental: true
})

/** Whose limits, checked. */
interface Target {
  readonly limits: ReadonlyArray<KnownLimit>
  readonly subject: string
}

/** A call, checked. */
interface Request extends Target {
  readonly cost: number
  readonly onUnavailable: OnUnavailable
}

const make = (engine: LimitEngine, settings: Settings) => {
  const local = memoryEngine()
  const unlessAway = makeOutage()
  const askInLine = makeLines()

  const target = (limits: Limits, subject: string): Result.Result<Target, InvalidInput> => {
    const name = checkName("rate limit subject", subject)
    if (Result.isFailure(name)) return Result.fail(name.failure)
    return Result.map(knownLimits(limits), (limits) => ({ limits, subject }))
  }

  const request = (
    given: Limits,
    subject: string,
    { cost = 1, onUnavailable = settings.onUnavailable }: CheckOptions = {}
  ): Result.Result<Request, InvalidInput | CostAboveLimit> => {
    const checked = target(given, subject)
    if (Result.isFailure(checked)) return Result.fail(checked.failure)
    const { limits } = checked.success
    if (!(cost > 0 && cost < Infinity)) return invalid("cost", "it is not a finite number above 0")
    for (const { capacity, name } of limits) {
      if (cost > capacity) return Result.fail(new CostAboveLimit({ limit: name, capacity, cost }))
    }
    return Result.map(checkPolicy(onUnavailable), (onUnavailable) => ({ limits, subject, cost, onUnavailable }))
  }

  const take = (engine: LimitEngine, { cost, limits, subject }: Request, degraded: boolean) =>
    Effect.flatMap(engine.take(limits, subject, cost), (decision) => {
      const verdict = judge(limits, decision, cost, decision.allowed, degraded)
      return decision.allowed ? Effect.succeed(verdict) : Effect.as(Metric.update(denials, 1), verdict)
    })

  const look = (engine: LimitEngine, { cost, limits, subject }: Request, degraded: boolean) =>
    Effect.map(engine.look(limits, subject), (standing) => judge(limits, standing, cost, undefined, degraded))

  const decide = (ask: typeof take, request: Request): Effect.Effect<Verdict, RedisError> =>
    request.onUnavailable === "fail"
      ? ask(engine, request, false)
      : unlessAway(ask(engine, request, false), Effect.suspend(() => decideAlone(ask, request, request.onUnavailable)))

  const decideAlone = (ask: typeof take, request: Request, policy: OnUnavailable) =>
    Effect.andThen(
      Metric.update(degradations, 1),
      Effect.suspend(() => {
        if (typeof policy !== "object") {
          return Effect.succeed(uncounted(request.limits, policy === "allow", outageMillis))
        }
        const limits = request.limits.map((limit) => shareOf(limit, policy.local))
        return limits.some(({ capacity }) => request.cost > capacity)
          ? Effect.succeed(uncounted(limits, false, outageMillis))
          : ask(local, { ...request, limits }, true)
      })
    )

  const admit = (request: Request, mostMillis: number): Effect.Effect<Verdict, RateLimited | RedisError> => {
    const check = decide(take, request)
    const asked = mostMillis === 0 ? check : askInLine({
      line: JSON.stringify([request.subject, ...request.limits.map(({ name }) => name)]),
      mostMillis,
      check,
      peek: decide(look, request)
    })
    return Effect.filterOrFail(asked, ({ allowed }) => allowed, rateLimited)
  }

  const spanned = <T extends Target, A, E, B>(
    method: string,
    target: Result.Result<T, E>,
    run: (target: T) => Effect.Effect<A, B>
  ): Effect.Effect<A, B | E> =>
    Result.isFailure(target)
      ? Effect.fail(target.failure)
      : traced(run(target.success), `RateLimiter.${method}`, "internal", () => ({
        "ratelimit.limits": target.success.limits.map(({ name }) => name)
      }))

  return RateLimiter.of({
    check: (limits, subject, options) =>
      Effect.suspend(() => spanned("check", request(limits, subject, options), (request) => decide(take, request))),
    peek: (limits, subject, options) =>
      Effect.suspend(() => spanned("peek", request(limits, subject, options), (request) => decide(look, request))),
    reset: (limits, subject) =>
      Effect.suspend(() =>
        spanned(
          "reset",
          target(limits, subject),
          ({ limits, subject }) => Effect.andThen(local.forget(limits, subject), engine.forget(limits, subject))
        )
      ),
    limit: (limits, subject, options) => (effect) =>
      Effect.suspend(() => {
        const most = checkMillis("wait", options?.wait ?? 0, 0, 24 * hourMillis)
        return Result.isFailure(most) ? Effect.fail(most.failure) : Effect.andThen(
          spanned("limit", request(limits, subject, options), (request) => admit(request, most.success)),
          effect
        )
      })
  })
}

const invalid = (input: string, problem: string) => Result.fail(new InvalidInput({ input, problem }))

const rateLimited = ({ capacity, degraded, limit, remaining, resetAfter, retryAfter }: Verdict) =>
  new RateLimited({ limit, capacity, remaining, retryAfter, resetAfter, degraded })
