/** Whether Redis, and what is built on it, works: probed on the connections in use, reported with reasons. */
import { Config, Context, DateTime, Duration, Effect, Layer, Option, Result, Schedule, Stream } from "effect"
import { makeClusterProbe } from "./internal/clusterProbe.ts"
import { finiteMillis } from "./internal/duration.ts"
import { oneFlight } from "./internal/flight.ts"
import { checkName } from "./internal/keys.ts"
import { type HealthDetails, type HealthStatus, type Probe, type ProbeResult, probesOf } from "./internal/probes.ts"
import { describeError, makeRedisProbe, type RedisFindings, type RedisLimits } from "./internal/redisProbe.ts"
import { traced } from "./internal/span.ts"
import { RedisClient } from "./RedisClient.ts"
import { InvalidInput } from "./RedisError.ts"

export type { HealthDetail, HealthDetails, HealthStatus } from "./internal/probes.ts"
export type { RedisDetails, RedisFindings } from "./internal/redisProbe.ts"

/** How one component is doing. */
export interface ComponentHealth {
  readonly status: HealthStatus
  /** Why it is not healthy. Empty when it is. */
  readonly reasons: ReadonlyArray<string>
  readonly details: HealthDetails
}

/** How everything is doing. It can be sent as JSON as it stands, and holds no address and no credential. */
export interface HealthReport {
  /** The worst of the components' statuses, where one that is not required counts as degraded at worst. */
  readonly status: HealthStatus
  /** When it was probed, in ISO 8601. */
  readonly timestamp: string
  /** Every component's reasons, each after its component's name. */
  readonly reasons: ReadonlyArray<string>
  readonly components: {
    /** The connection for commands and its server. */
    readonly redis: RedisFindings
    /** The connection for subscriptions, and whatever the services have to tell of themselves. */
    readonly [name: string]: ComponentHealth
  }
}

/** The process answers. */
export interface Liveness {
  readonly status: "alive"
  /** In ISO 8601. */
  readonly timestamp: string
}

/** Whether the process can do its work. */
export interface Readiness {
  readonly status: "ready" | "unready"
  /** When it was probed, in ISO 8601. */
  readonly timestamp: string
  /** What stands in the way. */
  readonly reasons: ReadonlyArray<string>
  /** The required components. One that no service has registered counts as unhealthy. */
  readonly required: { readonly [name: string]: HealthStatus }
}

/** How to probe, and what counts as wrong. */
export interface HealthOptions {
  /** How long a check may take: what has not answered by then is unhealthy. Default: 1 second. */
  readonly deadline?: Duration.Input | undefined
  /** How long a report is given again before Redis is asked anew. Default: 250 milliseconds. */
  readonly cache?: Duration.Input | undefined
  /** The components without which the process is not ready. Default: `["redis"]`. */
  readonly required?: ReadonlyArray<string> | undefined
  /** The part of `maxmemory`, and of `maxclients`, from which on Redis is degraded. Default: 0.9. */
  readonly fill?: number | undefined
  /** Eviction is wanted on this server, as on a cache's, and no reason to be degraded. Default: false. */
  readonly eviction?: boolean | undefined
}

/**
 * Reports whether Redis and the services on it work. Nothing here fails: what is wrong stands in the report.
 *
 * Concurrent checks share one probe. A server that forbids INFO is healthy, with less detail.
 *
 * @example
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { Health, HealthLive, RedisLive } from "effect-redis-kit"
 *
 * const program = Effect.gen(function*() {
 *   const health = yield* Health
 *   const report = yield* health.check
 *   if (report.status !== "healthy") yield* Effect.logWarning(report.status, report.reasons)
 * })
 *
 * export const main = program.pipe(Effect.provide(Layer.provide(HealthLive, RedisLive)))
 * ```
 */
export class Health extends Context.Service<Health, {
  /** Probes everything at once, and reports within the deadline. */
  readonly check: Effect.Effect<HealthReport>
  /** Answers as long as the process can: whether Redis does is no matter, as a restart would not mend it. */
  readonly live: Effect.Effect<Liveness>
  /** Whether every required component works. A degraded one does. */
  readonly ready: Effect.Effect<Readiness>
  /** A report now, and again each time `interval` has passed since the last one. Fails when the interval is not positive. */
  readonly watch: (interval: Duration.Input) => Stream.Stream<HealthReport, InvalidInput>
}>()("effect-redis-kit/Health") {
  /** Probes the connections of `RedisClient`. Fails when an option makes no sense. */
  static readonly layer = (options: HealthOptions = {}): Layer.Layer<Health, InvalidInput, RedisClient> =>
    Layer.effect(this, Effect.flatMap(Effect.fromResult(readOptions(options)), makeLive))

  /** `layer` with options read from the configuration. */
  static readonly layerConfig = (
    options: Config.Wrap<HealthOptions>
  ): Layer.Layer<Health, InvalidInput | Config.ConfigError, RedisClient> =>
    Layer.unwrap(Effect.map(Config.unwrap(options), (options) => this.layer(options)))

  /** Always healthy: the data are in this process. Says so in the report. */
  static readonly layerMemory: Layer.Layer<Health> = Layer.effect(
    this,
    Effect.suspend(() =>
      make(
        { redis: Effect.succeed({ status: "healthy", reasons: [], details: { engine: "memory" } }), probes: () => [] },
        defaults
      )
    )
  )
}

/** Health with default options. */
export const HealthLive: Layer.Layer<Health, never, RedisClient> = Layer.effect(
  Health,
  Effect.suspend(() => makeLive(defaults))
)

interface Settings extends RedisLimits {
  readonly deadline: Duration.Duration
  readonly cacheMillis: number
  readonly required: ReadonlyArray<string>
}

const defaults: Settings = {
  deadline: Duration.seconds(1),
  cacheMillis: 250,
  required: ["redis"],
  fill: 0.9,
  eviction: false
}

const invalid = (input: string, problem: string) => Result.fail(new InvalidInput({ input, problem }))

const positive = (input: string, given: Duration.Input): Result.Result<Duration.Duration, InvalidInput> => {
  const millis = finiteMillis(given)
  return millis !== undefined && millis > 0
    ? Result.succeed(Duration.millis(millis))
    : invalid(input, "it is not a finite duration above zero")
}

const readOptions = (options: HealthOptions): Result.Result<Settings, InvalidInput> =>
  Result.gen(function*() {
    const fill = options.fill ?? defaults.fill
    if (!(fill > 0 && fill <= 1)) return yield* invalid("fill", "it is not above 0 and up to 1")
    const cacheMillis = options.cache === undefined ? defaults.cacheMillis : finiteMillis(options.cache)
    if (cacheMillis === undefined) return yield* invalid("cache", "it is not a finite duration of zero or more")
    const required = options.required ?? defaults.required
    for (const name of required) yield* checkName("required component", name)
    return {
      deadline: options.deadline === undefined ? defaults.deadline : yield* positive("deadline", options.deadline),
      cacheMillis,
      required,
      fill,
      eviction: options.eviction ?? defaults.eviction
    }
  })

/** What is probed. */
interface Engine {
  readonly redis: Effect.Effect<RedisFindings>
  readonly probes: () => ReadonlyArray<Probe>
}

const lateAfter = (deadline: Duration.Duration) => `no answer within ${Duration.toMillis(deadline)} ms`

const makeLive = Effect.fnUntraced(function*(settings: Settings) {
  const client = yield* RedisClient
  const makeProbe = client.topology === "cluster" ? makeClusterProbe : makeRedisProbe
  const redis = yield* makeProbe(client, settings.deadline, lateAfter(settings.deadline), settings)
  return yield* make({ redis, probes: () => probesOf(client) }, settings)
})

const make = Effect.fnUntraced(function*(engine: Engine, settings: Settings) {
  const late = lateAfter(settings.deadline)

  const run = ({ check }: Probe): Effect.Effect<ComponentHealth> =>
    check.pipe(
      Effect.timeoutOption(settings.deadline),
      Effect.map((result) => Option.isNone(result) ? failed(late) : complete(result.value)),
      Effect.catch((error) => Effect.succeed(failed(describeError(error)))),
      // Its words may hold anything, a payload too: they are for the log of the service that failed.
      Effect.catchDefect(() => Effect.succeed(failed("its probe failed")))
    )

  const probe = Effect.gen(function*() {
    const probes = engine.probes()
    const [redis, ...others] = yield* Effect.all([engine.redis, ...probes.map(run)], { concurrency: "unbounded" })
    const components: Array<readonly [string, ComponentHealth]> = [["redis", redis]]
    const names = distinctNames(probes)
    for (const [i, health] of others.entries()) components.push([names[i]!, health])
    return { timestamp: yield* timestamp, components, redis }
  })
  const probed = yield* oneFlight(probe, settings.cacheMillis)

  const check: Health["Service"]["check"] = traced(
    Effect.map(probed, ({ components, redis, timestamp }) => ({
      status: worst(
        components.map(([name, { status }]) =>
          status === "unhealthy" && !settings.required.includes(name) ? "degraded" : status
        )
      ),
      timestamp,
      reasons: reasonsOf(components),
      components: { ...Object.fromEntries(components), redis }
    })),
    "Health.check",
    "internal"
  )

  const ready: Health["Service"]["ready"] = traced(
    Effect.map(probed, ({ components, timestamp }) => {
      const byName = new Map(components)
      const required = settings.required.map((name) =>
        [name, byName.get(name) ?? failed("no service has registered it")] as const
      )
      const lacking = required.filter(([, { status }]) => status === "unhealthy")
      return {
        status: lacking.length === 0 ? "ready" : "unready",
        timestamp,
        reasons: reasonsOf(lacking),
        required: Object.fromEntries(required.map(([name, { status }]) => [name, status]))
      }
    }),
    "Health.ready",
    "internal"
  )

  return Health.of({
    check,
    live: Effect.map(timestamp, (timestamp) => ({ status: "alive", timestamp })),
    ready,
    watch: (interval) =>
      Stream.unwrap(
        Effect.map(
          Effect.fromResult(positive("interval", interval)),
          (every) => Stream.fromEffectSchedule(check, Schedule.spaced(every))
        )
      )
  })
})

const timestamp = Effect.map(DateTime.now, DateTime.formatIso)

const failed = (reason: string): ComponentHealth => ({ status: "unhealthy", reasons: [reason], details: {} })

const complete = ({ details, reasons, status }: ProbeResult): ComponentHealth => ({
  status,
  reasons: reasons ?? [],
  details: details ?? {}
})

/** Two queues may bear one name, on two layers: the second is called `name 2`, and none is hidden. */
const distinctNames = (probes: ReadonlyArray<Probe>): ReadonlyArray<string> => {
  const taken = new Set(["redis"])
  return probes.map(({ name }) => {
    let distinct = name
    for (let n = 2; taken.has(distinct); n++) distinct = `${name} ${n}`
    taken.add(distinct)
    return distinct
  })
}

const reasonsOf = (components: ReadonlyArray<readonly [string, ComponentHealth]>): ReadonlyArray<string> =>
  components.flatMap(([name, { reasons }]) => reasons.map((reason) => `${name}: ${reason}`))

const worst = (statuses: ReadonlyArray<HealthStatus>): HealthStatus =>
  statuses.includes("unhealthy") ? "unhealthy" : statuses.includes("degraded") ? "degraded" : "healthy"
