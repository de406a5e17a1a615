/** The probes that services register with the connection they stand on, for Health to read. */
import { Effect, type Scope } from "effect"
import type { RedisError } from "../RedisError.ts"

/** `degraded` works, but somebody should look; `unhealthy` does not work. */
export type HealthStatus = "healthy" | "degraded" | "unhealthy"

/** What a probe tells besides its status, as JSON has it. */
export type HealthDetails = { readonly [name: string]: HealthDetail }
export type HealthDetail =
  | string
  | number
  | boolean
  | null
  | undefined
  | ReadonlyArray<HealthDetail>
  | HealthDetails

export interface ProbeResult {
  readonly status: HealthStatus
  /** Why it is not healthy, without credentials and payloads. */
  readonly reasons?: ReadonlyArray<string> | undefined
  readonly details?: HealthDetails | undefined
}

/** How a service, or a part of it, tells whether it works. */
export interface Probe {
  /** The component's name in the report, like `queue emails`. */
  readonly name: string
  /** Health interrupts it at its deadline. A failure means unhealthy. */
  readonly check: Effect.Effect<ProbeResult, RedisError>
}

// By client, so that services find Health, and Health them, without importing or requiring each other.
const registries = new WeakMap<object, Set<Probe>>()

/** Has Health run `probe` with each check of `client`, the RedisClient service, until the scope closes. */
export const registerProbe = (client: object, probe: Probe): Effect.Effect<void, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const probes = registries.get(client) ?? new Set()
      registries.set(client, probes)
      const own = { ...probe }
      probes.add(own)
      return () => {
        probes.delete(own)
      }
    }),
    (release) => Effect.sync(release)
  ).pipe(Effect.asVoid)

/** The probes registered with `client` now, in the order of their registration. */
export const probesOf = (client: object): ReadonlyArray<Probe> => [...registries.get(client) ?? []]
