/** Moving a slot of a Redis Cluster to another master, in steps, so that tests can stop half-way. */
import { Effect } from "effect"
import type { ClusterNode } from "./clusterNode.ts"
import { harnessUser, isRunning } from "./redisServer.ts"

export interface SlotMigration {
  readonly slot: number
  readonly from: ClusterNode
  readonly to: ClusterNode
  /** Keys that are still at `from`. */
  readonly keysLeft: Effect.Effect<number>
  /** Moves up to so many keys, and tells how many. Clients that ask `from` for them get ASK. Key names have to be UTF-8. */
  readonly moveKeys: (atMost: number) => Effect.Effect<number>
  /** Moves what is left, and gives the slot to `to`. All masters know when it returns, replicas a moment later. */
  readonly finish: Effect.Effect<void>
  /** Leaves the slot where it was. Keys that were moved come back first. */
  readonly cancel: Effect.Effect<void>
}

const chunk = 100

/** Marks the slot at both ends; no key has moved when it returns. */
export const beginMigration = (options: {
  readonly slot: number
  readonly from: ClusterNode
  readonly to: ClusterNode
  readonly nodes: ReadonlyArray<ClusterNode>
  readonly secret: string
}): Effect.Effect<SlotMigration> =>
  Effect.gen(function*() {
    const { from, nodes, secret, slot, to } = options
    if (from === to) return yield* Effect.die(new Error(`Slot ${slot} is at node ${to.port} already`))
    yield* to.cli("CLUSTER", "SETSLOT", slot, "IMPORTING", from.id)
    yield* from.cli("CLUSTER", "SETSLOT", slot, "MIGRATING", to.id)

    const move = (source: ClusterNode, target: ClusterNode, atMost: number) =>
      Effect.gen(function*() {
        const keys = (yield* source.cli("CLUSTER", "GETKEYSINSLOT", slot, atMost)) as ReadonlyArray<string>
        if (keys.length > 0) {
          const auth = ["AUTH2", harnessUser, secret]
          yield* source.cli("MIGRATE", target.host, target.nodePort, "", 0, 5000, "REPLACE", ...auth, "KEYS", ...keys)
        }
        return keys.length
      })
    const moveAll = (source: ClusterNode, target: ClusterNode) =>
      Effect.gen(function*() {
        while ((yield* move(source, target, chunk)) > 0);
      })

    return {
      slot,
      from,
      to,
      keysLeft: Effect.map(from.cli("CLUSTER", "COUNTKEYSINSLOT", slot), Number),
      moveKeys: (atMost) => move(from, to, atMost),
      finish: Effect.gen(function*() {
        yield* moveAll(from, to)
        const others = nodes.filter((node) => node !== from && node !== to && isRunning(node))
        // First the new owner: if the old one gave the slot up before, nobody would have it for a moment.
        for (const node of [to, from, ...others]) {
          if ((yield* node.role) === "master") yield* node.cli("CLUSTER", "SETSLOT", slot, "NODE", to.id)
        }
      }),
      cancel: Effect.gen(function*() {
        yield* from.cli("CLUSTER", "SETSLOT", slot, "STABLE")
        yield* moveAll(to, from)
        yield* to.cli("CLUSTER", "SETSLOT", slot, "STABLE")
      })
    }
  })
