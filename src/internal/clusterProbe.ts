/** What the masters of a Cluster tell of themselves, as one. */
import { type Duration, Effect, Option, Scope, Stream } from "effect"
import type { RedisClient, Use } from "../RedisClient.ts"
import {
  describeError,
  makeServerProbe,
  type RedisDetails,
  type RedisFindings,
  type RedisLimits,
  whySilent
} from "./redisProbe.ts"
import { parseInfo } from "./serverInfo.ts"

/** Asks each master over the connection in use. Whoever asks waits no longer than `deadline`. */
export const makeClusterProbe = (
  client: RedisClient["Service"],
  deadline: Duration.Duration,
  late: string,
  limits: RedisLimits
): Effect.Effect<Effect.Effect<RedisFindings>, never, Scope.Scope> =>
  Effect.map(Effect.scope, (scope) => {
    const probes = new Map<string, { use: Use; readonly probe: Effect.Effect<RedisFindings> }>()

    const probesNow = Effect.flatMap(client.servers, (servers) => {
      for (const address of probes.keys()) {
        if (!servers.some((server) => server.address === address)) probes.delete(address)
      }
      return Effect.forEach(servers, ({ address, use }) => {
        const known = probes.get(address)
        if (known !== undefined) {
          known.use = use
          return Effect.succeed(known.probe)
        }
        // One that has left and come back is reached over another connection.
        const useNow: Use = (...call) => Effect.suspend(() => (probes.get(address)?.use ?? use)(...call))
        const info = Effect.map(useNow("info", (redis) => redis.info(), { repeatable: true }), parseInfo)
        return makeServerProbe({ use: useNow, info, states: client.states, isNode: true }, deadline, late, limits).pipe(
          Scope.provide(scope),
          Effect.tap((probe) => Effect.sync(() => probes.set(address, { use, probe })))
        )
      })
    })

    return Effect.gen(function*() {
      // At the start, nobody may be known yet.
      const asked = yield* Effect.timeoutOption(Effect.result(probesNow), deadline)
      const [state] = yield* Stream.runCollect(Stream.take(client.states, 1))
      const reconnects = Math.max((state?.epoch ?? 0) - 1, 0)
      const details: RedisDetails = {
        engine: "redis",
        connection: state?._tag === "Ready" ? "ready" : "connecting",
        reconnects
      }
      if (Option.isNone(asked)) {
        const error = state?._tag === "Disconnected" ? state.error : undefined
        return { status: "unhealthy", reasons: [whySilent({ error, state }, late)], details }
      }
      if (asked.value._tag === "Failure") {
        return { status: "unhealthy", reasons: [describeError(asked.value.failure)], details }
      }
      const found = yield* Effect.all(asked.value.success, { concurrency: "unbounded" })
      const reasons = reasonsOf(found)
      const isWhole = state?._tag === "Ready"
      if (!isWhole) reasons.unshift("not all hash slots are served")
      const worst = ["unhealthy", "degraded", "healthy"] as const
      return {
        status: isWhole
          ? worst.find((status) => found.some((one) => one.status === status)) ?? "unhealthy"
          : "unhealthy",
        reasons,
        details: {
          ...details,
          latencyMillis: Math.max(...found.map((one) => one.details.latencyMillis ?? 0)),
          masters: found.map((one) => one.details)
        }
      }
    })
  })

/** Each reason once, with how many have it. */
const reasonsOf = (found: ReadonlyArray<RedisFindings>): Array<string> => {
  const counts = new Map<string, number>()
  for (const { reasons } of found) {
    for (const reason of reasons) counts.set(reason, (counts.get(reason) ?? 0) + 1)
  }
  return Array.from(counts, ([reason, count]) => `${count} of ${found.length} masters: ${reason}`)
}
