/** Whether there are as many replicas as writes wait for: without them, each such write fails. */
import { Effect, type Scope } from "effect"
import type { RedisClient } from "../RedisClient.ts"
import { type ProbeResult, registerProbe } from "./probes.ts"
import type { ReplicaWait } from "./replicas.ts"
import { parseInfo, type ServerInfo } from "./serverInfo.ts"

/** Has Health tell when the writes of a service, which wait so, find too few replicas. */
export const watchReplicas = (
  client: RedisClient["Service"],
  service: string,
  wait: ReplicaWait | undefined
): Effect.Effect<void, never, Scope.Scope> =>
  wait === undefined ? Effect.void : registerProbe(client, {
    name: `replicas for ${service}`,
    check: Effect.gen(function*() {
      const found = yield* Effect.forEach(
        yield* client.servers,
        ({ use }) =>
          Effect.map(
            use("info", (redis) => redis.info("replication"), { repeatable: true }),
            (text) => onlineReplicas(parseInfo(text))
          ),
        { concurrency: "unbounded" }
      )
      return verdict(found, wait.count)
    }).pipe(
      // Whoever may not ask does not know.
      Effect.catchIf(
        ({ reason }) => reason === "no-permission",
        () => Effect.succeed<ProbeResult>({ status: "healthy", details: { replicas: null } })
      )
    )
  })

const verdict = (found: ReadonlyArray<number>, wanted: number): ProbeResult => {
  const least = Math.min(...found)
  const details = { replicas: least, wanted }
  return least >= wanted ? { status: "healthy", details } : {
    status: "degraded",
    reasons: [`writes wait for ${wanted} of them, and ${found.length === 1 ? "the master" : "a master"} has ${least}`],
    details
  }
}

/** One that still copies the data acknowledges nothing. */
const onlineReplicas = (info: ServerInfo): number =>
  Object.entries(info).filter(([name, value]) => /^slave\d+$/.test(name) && value.includes("state=online")).length
