/** Mutual exclusion between processes, with leases that are kept alive, and tokens that fence off late holders. */
import { Config, Context, Deferred, Duration, Effect, Fiber, Layer, Metric, Option, Result, type Scope } from "effect"
import { type KeptLease, keptLease } from "./internal/keepLease.ts"
import { checkName, keyBase, requireName, sharedNamespace } from "./internal/keys.ts"
import { type LockEngine, type Place, redisEngine, type Wakes } from "./internal/lockEngine.ts"
import { makeGuard } from "./internal/lockGuard.ts"
import { makeLockLine, type Taken } from "./internal/lockLine.ts"
import { memoryEngine } from "./internal/lockMemory.ts"
import {
  checkSettings,
  checkTimes,
  checkTtl,
  type LockRequest,
  type LockSettings,
  type LockTimes
} from "./internal/lockRequest.ts"
import { monotonicMillis } from "./internal/monotonic.ts"
import { watchReplicas } from "./internal/replicasProbe.ts"
import { traced } from "./internal/span.ts"
import { warnAtStart } from "./internal/startWarnings.ts"
import {
  type DistributedLockOptions,
  type GuardOptions,
  type Lease,
  type LeaseOptions,
  LockLost,
  type LockOptions,
  type LockStatus,
  LockTaken,
  LockTimeout,
  type Work
} from "./Lease.ts"
import { RedisClient } from "./RedisClient.ts"
import type { InvalidInput, RedisError } from "./RedisError.ts"

export type { DistributedLockOptions } from "./Lease.ts"

/**
 * Locks that processes share. A lock is a lease in the server's time, extended in the background for as long as it is
 * held, and free after its `ttl` when its holder dies. Those who wait come by turns: a release wakes one of them.
 *
 * Work is interrupted when its lock is lost: within a third of the ttl when the lease is gone on the server (deleted,
 * evicted, lost in a failover), and before nine tenths of it have passed when the server cannot be reached.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { DistributedLock } from "effect-redis-kit"
 *
 * export const notify = (patient: string, send: Effect.Effect<void>) =>
 *   Effect.gen(function*() {
 *     const locks = yield* DistributedLock
 *     yield* send.pipe(
 *       locks.withLock(`patient:${patient}`, { ttl: "10 seconds", wait: "1 second" }),
 *       Effect.catchTag("LockTimeout", () => Effect.log("somebody else is writing to this patient"))
 *     )
 *   })
 *
 * export const savePlan = (patient: string, plan: string) =>
 *   Effect.gen(function*() {
 *     const locks = yield* DistributedLock
 *     yield* locks.withLock(`plan:${patient}`)((lease) => locks.guardedSet(lease, `plan:${patient}`, plan))
 *   })
 * ```
 */
export class DistributedLock extends Context.Service<DistributedLock, {
  /**
   * Runs work while holding `key`, and releases it however the work ends. Fails with LockTimeout when the lock was busy
   * for `wait`, and with LockLost when it was lost under the work, which is then interrupted, its finalizers included.
   */
  readonly withLock: (key: string, options?: LockOptions) => <A, E, R>(
    work: Work<A, E, R>
  ) => Effect.Effect<A, E | LockTimeout | LockLost | RedisError | InvalidInput, R>
  /** Holds `key` until the scope closes. Fails with LockTimeout when it was busy for `wait`. Nothing is interrupted on a loss: see `Lease.run`. */
  readonly acquire: (
    key: string,
    options?: LockOptions
  ) => Effect.Effect<Lease, LockTimeout | RedisError | InvalidInput, Scope.Scope>
  /** Holds `key` until the scope closes. Fails with LockTaken at once when it is busy. */
  readonly tryAcquire: (
    key: string,
    options?: LeaseOptions
  ) => Effect.Effect<Lease, LockTaken | RedisError | InvalidInput, Scope.Scope>
  /** Who holds `key`, if anybody does. */
  readonly inspect: (
    key: string,
    options?: { readonly shared?: boolean | undefined }
  ) => Effect.Effect<Option.Option<LockStatus>, RedisError | InvalidInput>
  /** Stores a text under `name`. Fails with LockLost, and leaves what is there, when a greater token has written it. */
  readonly guardedSet: (
    lease: Pick<Lease, "key" | "token">,
    name: string,
    value: string,
    options?: GuardOptions
  ) => Effect.Effect<void, LockLost | RedisError | InvalidInput>
  /** The text that `guardedSet` has stored under `name`. */
  readonly guardedGet: (
    name: string,
    options?: Pick<GuardOptions, "shared">
  ) => Effect.Effect<Option.Option<string>, RedisError | InvalidInput>
}>()("effect-redis-kit/DistributedLock") {
  /** Locks on Redis. Fails when an option is out of range. */
  static readonly layer = (
    options: DistributedLockOptions = {}
  ): Layer.Layer<DistributedLock, InvalidInput, RedisClient> =>
    Layer.effect(this, Effect.flatMap(Effect.fromResult(checkSettings(options, defaults)), makeLive))

  /** `layer` with options read from the configuration. */
  static readonly layerConfig = (
    options: Config.Wrap<DistributedLockOptions>
  ): Layer.Layer<DistributedLock, InvalidInput | Config.ConfigError, RedisClient> =>
    Layer.unwrap(Effect.map(Config.unwrap(options), (options) => this.layer(options)))

  /** Locks within this process, under Effect's Clock. */
  static readonly layerMemory: Layer.Layer<DistributedLock> = Layer.effect(
    this,
    Effect.suspend(() => make((wakes) => Effect.succeed(memoryEngine(wakes)), defaults))
  )
}

/** Locks on Redis with the default options. */
export const DistributedLockLive: Layer.Layer<DistributedLock, never, RedisClient> = Layer.effect(
  DistributedLock,
  Effect.suspend(() => makeLive(defaults))
)

const defaults: LockSettings = { ttlMillis: 30_000, waitMillis: 10_000, replicas: undefined }
const holdTime = Metric.timer("redis_lock_hold", { description: "How long a lock was held" })
const lossCount = Metric.counter("redis_lock_lost", { description: "Locks lost by their holders", incremental: true })

/** A lock got, with what its release needs. */
interface Held extends Taken {
  readonly request: LockRequest
  readonly lease: KeptLease
  readonly loss: Deferred.Deferred<never, LockLost>
}

const makeLive = (times: LockSettings) =>
  Effect.gen(function*() {
    const client = yield* RedisClient
    yield* warnAtStart(client, "locks")
    yield* watchReplicas(client, "locks", times.replicas)
    return yield* make((wakes) => redisEngine(client, wakes, times.replicas), times)
  })

const make = Effect.fnUntraced(function*(
  engineFor: (wakes: Wakes) => Effect.Effect<LockEngine, never, Scope.Scope>,
  otherwise: LockTimes
) {
  const line = yield* makeLockLine(engineFor)
  const { engine } = line

  const placeOf = (service: string, name: string, shared: boolean | undefined): Place => {
    const namespace = shared === true ? sharedNamespace : engine.namespace
    return { namespace, base: keyBase(namespace, service, name) }
  }

  const guard = makeGuard(engine, (name, shared) => placeOf("guarded", name, shared))

  const request = (key: string, options: LockOptions): Result.Result<LockRequest, InvalidInput> => {
    const name = checkName("lock key", key)
    if (Result.isFailure(name)) return Result.fail(name.failure)
    return Result.map(checkTimes(options, otherwise), ({ ttlMillis, waitMillis }) => ({
      key,
      place: placeOf("lock", key, options.shared),
      owner: line.nextOwner(),
      ttlMillis,
      waitMillis
    }))
  }

  const take = (
    restore: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>,
    request: LockRequest
  ): Effect.Effect<Held, LockTimeout | RedisError> =>
    Effect.clockWith((clock) =>
      Effect.flatMap(line.take(restore, request), (taken) => {
        const { key, owner, place, ttlMillis, waitMillis } = request
        if (taken === undefined) return Effect.fail(new LockTimeout({ key, waitedMillis: waitMillis }))
        const lease = keptLease(clock, {
          ttlMillis,
          since: taken.since,
          extend: (ttlMillis, timeoutMillis) => engine.extend(place, owner, ttlMillis, timeoutMillis)
        })
        return Effect.succeed({ ...taken, request, lease, loss: Deferred.makeUnsafe() })
      })
    )

  const release = ({ loss, request, since }: Held): Effect.Effect<void> =>
    Effect.clockWith((clock) => {
      const freed = Deferred.isDoneUnsafe(loss)
        ? Effect.void
        : Effect.ignore(engine.release(request.place, request.owner, false), {
          log: "Warn",
          message: `Lock "${request.key}" was left to fall free by itself`
        })
      return Effect.andThen(Metric.update(holdTime, Duration.millis(monotonicMillis(clock) - since)), freed)
    })

  const lose = ({ loss, request }: Held, reason: LockLost["reason"]): Effect.Effect<never, LockLost> =>
    Effect.suspend(() => {
      const error = new LockLost({ key: request.key, reason })
      const first = Deferred.doneUnsafe(loss, Effect.fail(error))
      return first ? Effect.andThen(Metric.update(lossCount, 1), Effect.fail(error)) : Effect.fail(error)
    })

  /** Keeps the lease; fails when it is lost. */
  const keep = (held: Held): Effect.Effect<never, LockLost> =>
    Effect.flatMap(held.lease.keep, (reason) => lose(held, reason))

  /** Runs `work` until `lost` fails. Work that blocked the process for longer than the lease has lost it, too. */
  const runUntil = <A, E, R>(held: Held, work: Effect.Effect<A, E, R>, lost: Effect.Effect<never, LockLost>) =>
    Effect.flatMap(Effect.raceFirst(work, lost), (value) => {
      const reason = held.lease.loss()
      return reason === undefined ? Effect.succeed(value) : lose(held, reason)
    })

  const leaseOf = (held: Held): Lease => {
    const { request: { key, owner, ttlMillis }, token } = held
    const lost = Deferred.await(held.loss)
    return {
      key,
      holder: owner,
      token,
      lost,
      run: (work) => runUntil(held, work, lost),
      extend: (ttl) => {
        const millis = ttl === undefined ? Result.succeed(ttlMillis) : checkTtl(ttl)
        if (Result.isFailure(millis)) return Effect.fail(millis.failure)
        return Effect.flatMap(
          held.lease.extend(millis.success),
          (extended) => extended ? Effect.void : lose(held, "removed")
        )
      }
    }
  }

  const hold = (key: string, options: LockOptions) =>
    Effect.uninterruptibleMask((restore) =>
      Effect.gen(function*() {
        const held = yield* take(restore, yield* Effect.fromResult(request(key, options)))
        const keeper = yield* Effect.forkDetach(Effect.ignore(keep(held)), { startImmediately: true })
        yield* Effect.addFinalizer(() => Effect.andThen(Fiber.interrupt(keeper), release(held)))
        return leaseOf(held)
      })
    )

  const holdDuring = <A, E, R>(key: string, options: LockOptions, work: Work<A, E, R>) =>
    Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(
        Effect.fromResult(request(key, options)),
        (request) =>
          Effect.flatMap(take(restore, request), (held) => {
            const guarded = Effect.isEffect(work) ? work : Effect.suspend(() => work(leaseOf(held)))
            return Effect.onExit(restore(runUntil(held, guarded, keep(held))), () => release(held))
          })
      )
    )

  const span = <A, E, R>(method: string, key: string, effect: Effect.Effect<A, E, R>) =>
    traced(effect, `DistributedLock.${method}`, "internal", () => ({ "lock.key": key }))

  return DistributedLock.of({
    withLock: (key, options = {}) => (work) => span("withLock", key, holdDuring(key, options, work)),
    acquire: (key, options = {}) => span("acquire", key, hold(key, options)),
    tryAcquire: (key, options = {}) =>
      span(
        "tryAcquire",
        key,
        Effect.catchTag(hold(key, { ...options, wait: 0 }), "LockTimeout", () => Effect.fail(new LockTaken({ key })))
      ),
    inspect: (key, options) =>
      span(
        "inspect",
        key,
        Effect.gen(function*() {
          const place = placeOf("lock", yield* requireName("lock key", key), options?.shared)
          const holding = yield* engine.inspect(place)
          if (holding === undefined) return Option.none()
          const { heldMillis, holder, remainingMillis, token, waiters } = holding
          return Option.some({
            holder,
            token,
            heldFor: Duration.millis(heldMillis),
            remaining: Duration.millis(remainingMillis),
            waiters
          })
        })
      ),
    guardedSet: (lease, name, value, options) => span("guardedSet", lease.key, guard.set(lease, name, value, options)),
    guardedGet: (name, options) => span("guardedGet", name, guard.get(name, options))
  })
})
