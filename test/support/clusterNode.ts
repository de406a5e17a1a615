/** The servers of a Redis Cluster, how they become one, and what each of them thinks of the others. */
import { Effect } from "effect"
import { slotCount } from "./clusterSlot.ts"
import { isRunning, type RedisServer, tell } from "./redisServer.ts"
import type { Reply } from "./resp.ts"
import { until } from "./until.ts"

export interface ClusterNode extends RedisServer {
  /** Its name in the Cluster. */
  readonly id: string
  /** What it says of itself now. */
  readonly role: Effect.Effect<"master" | "replica">
  /** The port by which other nodes and, under TLS, clients know it. */
  readonly nodePort: number
}

/** One node as another, or itself, sees it. */
export interface NodeView {
  readonly id: string
  readonly flags: ReadonlySet<string>
  /** Of a replica. */
  readonly masterId: string | undefined
  readonly epoch: number
  /** Whether the bus link to it stands. */
  readonly linked: boolean
  /** First and last of each range. */
  readonly slots: ReadonlyArray<readonly [first: number, last: number]>
}

export const makeNode = (server: RedisServer, tls: boolean): Effect.Effect<ClusterNode> =>
  Effect.map(server.cli("CLUSTER", "MYID"), (id) =>
    // The server's own object, as it has getters.
    Object.assign(server, {
      id: String(id),
      nodePort: tls && server.tlsPort !== undefined ? server.tlsPort : server.port,
      role: Effect.map(roleOf(server), ([role]) => role === "master" ? "master" as const : "replica" as const)
    }))

const roleOf = (server: RedisServer) =>
  Effect.map(server.cli("ROLE"), (reply) => reply as readonly [role: string, ...rest: ReadonlyArray<Reply>])

/** All nodes as `node` sees them. */
export const viewOf = async (node: ClusterNode): Promise<ReadonlyArray<NodeView>> =>
  String(await tell(node, "CLUSTER", "NODES")).trim().split("\n").map((line) => {
    const [id = "", , flags = "", masterId, , , epoch, link, ...slots] = line.split(" ")
    return {
      id,
      flags: new Set(flags.split(",")),
      masterId: masterId === "-" ? undefined : masterId,
      epoch: Number(epoch),
      linked: link === "connected",
      // In brackets stand slots that are on their way.
      slots: slots.filter((range) => !range.startsWith("[")).map((range) => {
        const [first, last = first] = range.split("-").map(Number)
        return [Number(first), Number(last)] as const
      })
    }
  })

/** What a node thinks of itself. */
export const selfOf = async (node: ClusterNode): Promise<NodeView> => {
  const self = (await viewOf(node)).find(({ flags }) => flags.has("myself"))
  if (self === undefined) throw new Error(`Node ${node.port} does not know itself`)
  return self
}

/** Makes one Cluster of nodes that know nothing yet: the first `masters` share the slots, the others replicate them in turn. */
export const join = (nodes: ReadonlyArray<ClusterNode>, masters: number): Effect.Effect<void> =>
  Effect.gen(function*() {
    yield* Effect.promise(() =>
      Promise.all(
        nodes.slice(0, masters).map(async (node, i) => {
          // Epochs that differ from the start spare the nodes a round of settling them, one at a time.
          await tell(node, "CLUSTER", "SET-CONFIG-EPOCH", i + 1)
          const [first, next] = [i, i + 1].map((n) => Math.floor(n * slotCount / masters)) as [number, number]
          // ADDSLOTSRANGE is shorter, but not known to Redis 6.2.
          await tell(node, "CLUSTER", "ADDSLOTS", ...Array.from({ length: next - first }, (_, slot) => first + slot))
        })
      )
    )
    // Each meets each: gossip would take seconds to get around.
    yield* Effect.promise(() =>
      Promise.all(
        nodes.flatMap((node) =>
          nodes.filter((other) => other !== node).map((other) =>
            tell(node, "CLUSTER", "MEET", other.host, other.nodePort)
          )
        )
      )
    )
    yield* Effect.forEach(nodes.slice(masters), (replica, i) => {
      const master = nodes[i % masters]?.id ?? ""
      return until(`Node ${replica.port} replicates ${master}`, () => tell(replica, "CLUSTER", "REPLICATE", master))
    }, { concurrency: "unbounded" })
  })

/** Waits until the running nodes agree on who has which slots, who replicates whom, and who is gone; and all links stand. */
export const settle = (nodes: ReadonlyArray<ClusterNode>): Effect.Effect<void> =>
  until("The Cluster settles", () => checkSettled(nodes))

const checkSettled = async (nodes: ReadonlyArray<ClusterNode>) => {
  const running = nodes.filter(isRunning)
  const views = await Promise.all(running.map(viewOf))
  const beliefs = new Set(views.map(spell))
  if (beliefs.size > 1) throw new Error(`Nodes disagree:\n${Array.from(beliefs).join("\n")}`)
  for (const [i, node] of running.entries()) {
    for (const other of nodes) checkOther(node, other, views[i]?.find(({ id }) => id === other.id))
    if (views[i]?.length !== nodes.length) throw new Error(`Node ${node.port} knows strangers`)
  }
  const view = views[0] ?? []
  const serving = running.filter(({ id }) => {
    const self = view.find((other) => other.id === id)
    return view.some((other) => other.id === (self?.masterId ?? id) && other.slots.length > 0)
  })
  await Promise.all(running.map(async (node) => {
    const info = String(await tell(node, "CLUSTER", "INFO"))
    if (!info.includes("cluster_state:ok")) throw new Error(`To node ${node.port} the Cluster is down`)
    const slots = JSON.stringify(await tell(node, "CLUSTER", "SLOTS"))
    const hidden = serving.find(({ id }) => !slots.includes(id))
    if (hidden !== undefined) throw new Error(`Node ${node.port} does not tell clients of ${hidden.port}`)
    const self = view.find(({ id }) => id === node.id)
    const following = running.filter(({ id }) => view.some((other) => other.id === id && other.masterId === node.id))
    const [role, , online, link] = await Effect.runPromise(roleOf(node))
    if (self?.flags.has("master") === true) {
      const missing = following.length - (Array.isArray(online) ? online.length : 0)
      if (role !== "master" || missing > 0) throw new Error(`Master ${node.port} misses ${missing} replicas`)
    } else if (link !== "connected") {
      throw new Error(`Replica ${node.port} is not linked to its master: ${String(link)}`)
    }
  }))
}

const checkOther = (node: ClusterNode, other: ClusterNode, view: NodeView | undefined) => {
  const who = `Node ${other.port}, as ${node.port} sees it,`
  if (view === undefined) throw new Error(`${who} does not exist`)
  if (isRunning(other)) {
    const trouble = ["handshake", "noaddr", "fail", "fail?"].find((flag) => view.flags.has(flag))
    if (trouble !== undefined) throw new Error(`${who} is in trouble: ${trouble}`)
    if (!view.linked) throw new Error(`${who} is not linked`)
  } else {
    if (!view.flags.has("fail")) throw new Error(`${who} is still up`)
    if (view.slots.length > 0) throw new Error(`${who} has slots, though it is gone`)
  }
}

const spell = (view: ReadonlyArray<NodeView>) =>
  view.map(({ flags, id, masterId, slots }) =>
    [id, flags.has("master") ? "master" : masterId, ...slots.map((range) => range.join("-"))].join(" ")
  ).toSorted().join("\n")
