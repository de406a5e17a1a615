/** What happens to the servers, and what users may count on meanwhile. */
import { Effect, type Scope } from "effect"
import type { RedisSettings } from "../../src/RedisSettings.ts"
import { RedisCluster } from "../support/redisCluster.ts"
import { RedisSentinel } from "../support/redisSentinel.ts"
import { hot } from "./loadContext.ts"

export interface Scenario {
  readonly name: string
  readonly what: string
  /** A server dies with commands under way: some of them must end as `Unknown`. */
  readonly kills: boolean
  /** Nothing that was acknowledged may be lost, also without WAIT. */
  readonly lossless: boolean
  readonly start: Effect.Effect<Deployment, never, Scope.Scope>
}

export interface Deployment {
  readonly settings: RedisSettings
  /** How many replicas each master has. */
  readonly replicas: number
  /** Done when all is well again. */
  readonly strike: Effect.Effect<void>
}

const hotKey = `{${hot}}`
/** As most have it. What a server has on disk when it is killed plays no part: another takes over. */
const persistence = "aof-everysec"

const sentinels = (replicas: number, strike: (sentinel: RedisSentinel) => Effect.Effect<void>) =>
  Effect.map(RedisSentinel.start({ replicas, persistence }), (sentinel): Deployment => ({
    settings: { url: sentinel.url },
    replicas,
    strike: strike(sentinel)
  }))

const cluster = (strike: (cluster: RedisCluster) => Effect.Effect<void>) =>
  Effect.map(RedisCluster.start({ persistence }), (cluster): Deployment => ({
    settings: { url: cluster.url },
    replicas: 1,
    strike: strike(cluster)
  }))

/** Another takes over from a master that died, and the dead one comes back as a replica. */
const recover = (
  { settled }: Pick<RedisSentinel, "settled">,
  dead: { readonly restart: Effect.Effect<void> }
): Effect.Effect<void> => settled.pipe(Effect.andThen(dead.restart), Effect.andThen(settled))

/** More than the sockets between master and replica hold: what is written afterwards stays with the master. */
const fill = `for i = 1, 40 do redis.call("SET", KEYS[1], string.rep("x", 1000000)) end`

/** The replica falls behind, catches up, and the master dies; then again, and the master dies before it has caught up. */
const lag = (sentinel: RedisSentinel) =>
  Effect.gen(function*() {
    for (const catchesUp of [true, false]) {
      const [replica] = yield* sentinel.replicas
      if (replica === undefined) return yield* Effect.die(new Error("There is no replica"))
      yield* replica.pause
      const master = yield* sentinel.master
      yield* master.cli("EVAL", fill, 1, "fill")
      yield* Effect.sleep("1 second")
      if (catchesUp) {
        yield* replica.resume
        yield* sentinel.settled
        yield* Effect.sleep("300 millis")
        yield* master.kill()
      } else {
        yield* master.kill()
        yield* replica.resume
      }
      yield* recover(sentinel, master)
      yield* Effect.sleep("500 millis")
    }
  })

const migrate = (cluster: RedisCluster) =>
  Effect.gen(function*() {
    const from = yield* cluster.masterOf(hotKey)
    const to = (yield* cluster.masters).find((master) => master !== from)
    if (to === undefined) return yield* Effect.die(new Error("There is no other master"))
    const many = `for i = 1, 500 do redis.call("SET", KEYS[1] .. i, string.rep("x", 1000)) end`
    yield* from.cli("EVAL", many, 1, `${hotKey}:more:`)
    for (const target of [to, from]) {
      yield* cluster.migrate(hotKey, target, { chunk: 50, betweenKeys: Effect.sleep("20 millis") })
      // A slot that goes back before all have heard of the new epoch may end with two owners of the same epoch.
      yield* cluster.settled
      yield* Effect.sleep("500 millis")
    }
  })

export const scenarios: ReadonlyArray<Scenario> = [
  {
    name: "sentinel-kill",
    what: "Sentinel, 2 replicas: the master is killed",
    kills: true,
    lossless: false,
    start: sentinels(2, (sentinel) => Effect.flatMap(sentinel.killMaster, (dead) => recover(sentinel, dead)))
  },
  {
    name: "sentinel-planned",
    what: "Sentinel, 2 replicas: SENTINEL FAILOVER",
    kills: false,
    // The old master takes writes for a moment after a replica was promoted.
    lossless: false,
    start: sentinels(2, (sentinel) => Effect.asVoid(sentinel.failover))
  },
  {
    name: "cluster-kill",
    what: "Cluster, 3 masters with a replica each: one master is killed",
    kills: true,
    lossless: false,
    start: cluster((cluster) => Effect.flatMap(cluster.killMaster(hotKey), (dead) => recover(cluster, dead)))
  },
  {
    name: "cluster-planned",
    what: "Cluster, 3 masters with a replica each: CLUSTER FAILOVER",
    kills: false,
    lossless: true,
    start: cluster((cluster) => Effect.asVoid(Effect.flatMap(cluster.masterOf(hotKey), cluster.failover)))
  },
  {
    name: "cluster-migration",
    what: "Cluster, 3 masters with a replica each: the hot slot moves with its keys, there and back",
    kills: false,
    lossless: true,
    start: cluster(migrate)
  },
  {
    name: "replica-lag",
    what: "Sentinel, 1 replica that is stopped for a while: the master is killed after it caught up, and before",
    kills: true,
    lossless: false,
    start: sentinels(1, lag)
  }
]
