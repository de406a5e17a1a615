/** What Sentinels and the servers that they watch say of each other. */
import type { Effect } from "effect"
import { isRunning, type RedisServer, tell } from "./redisServer.ts"
import type { Reply } from "./resp.ts"
import { until } from "./until.ts"

export interface Sentinel extends RedisServer {
  readonly id: string
}

export interface Deployment {
  readonly name: string
  readonly servers: ReadonlyArray<RedisServer>
  readonly sentinels: ReadonlyArray<Sentinel>
  /** The port by which servers and Sentinels know a server. */
  readonly linkPort: (server: RedisServer) => number
}

/** The port of the master that the first running Sentinel would tell a client. */
export const masterPort = async ({ name, sentinels }: Deployment): Promise<number> => {
  const sentinel = sentinels.find(isRunning)
  if (sentinel === undefined) throw new Error("No Sentinel runs")
  return portOf(sentinel, name)
}

const portOf = async (sentinel: Sentinel, name: string) => {
  const address = await tell(sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)
  return Number(Array.isArray(address) ? address[1] : undefined)
}

/** Waits until the running Sentinels agree on a running master, all running replicas follow it, and who is down is known. */
export const settle = (deployment: Deployment): Effect.Effect<void> =>
  until("The Sentinels settle", () => checkSettled(deployment), 30_000)

const checkSettled = async (deployment: Deployment) => {
  const { linkPort, name, sentinels, servers } = deployment
  const running = sentinels.filter(isRunning)
  const ports = new Set(await Promise.all(running.map((sentinel) => portOf(sentinel, name))))
  const master = servers.find((server) => ports.has(linkPort(server)))
  if (ports.size !== 1 || master === undefined) throw new Error(`They name masters at ${Array.from(ports).join(", ")}`)
  if (!isRunning(master)) throw new Error(`Master ${master.port} does not run`)
  const replicas = servers.filter((server) => server !== master)
  await Promise.all([
    ...running.map((sentinel) => checkSentinel(deployment, sentinel, replicas)),
    checkRole(master, (role, _, online) => role === "master" && Number(online) >= replicas.filter(isRunning).length),
    ...replicas.filter(isRunning).map((replica) =>
      checkRole(replica, (role, port, link) => role === "slave" && port === linkPort(master) && link === "connected")
    )
  ])
}

/** Of a master ROLE tells how many replicas are online, of a replica its master's port and the state of the link. */
const checkRole = async (
  server: RedisServer,
  check: (role: Reply, port: Reply, detail: Reply) => boolean
) => {
  const [role = null, offsetOrHost = null, third = null, link = null] = (await tell(server, "ROLE")) as Array<Reply>
  const good = role === "master"
    ? check(role, offsetOrHost, Array.isArray(third) ? third.length : 0)
    : check(role, third, link)
  if (!good) throw new Error(`Server ${server.port} is ${String(role)} still, or not linked: ${String(link)}`)
}

const checkSentinel = async (
  { linkPort, name, sentinels, servers }: Deployment,
  sentinel: Sentinel,
  replicas: ReadonlyArray<RedisServer>
) => {
  const [master, knownReplicas, knownSentinels] = await Promise.all([
    tell(sentinel, "SENTINEL", "MASTER", name).then(record),
    tell(sentinel, "SENTINEL", "REPLICAS", name).then(records),
    tell(sentinel, "SENTINEL", "SENTINELS", name).then(records)
  ])
  const as = `as Sentinel ${sentinel.port} sees it`
  if (master["flags"] !== "master") throw new Error(`The master, ${as}, is ${master["flags"]}`)
  if (knownReplicas.length !== servers.length - 1) throw new Error(`Replicas are missing, ${as}`)
  for (const replica of replicas) {
    const seen = knownReplicas.find(({ port }) => Number(port) === linkPort(replica))
    const who = `Replica ${replica.port}, ${as},`
    if (!isRunning(replica)) {
      if (seen?.["flags"]?.includes("s_down") !== true) throw new Error(`${who} is still up`)
    } else if (seen?.["flags"] !== "slave" || seen["master-link-status"] !== "ok") {
      throw new Error(`${who} is ${seen?.["flags"]}, its link ${seen?.["master-link-status"]}`)
    }
  }
  for (const other of sentinels) {
    if (other === sentinel) continue
    const flags = knownSentinels.find(({ runid }) => runid === other.id)?.["flags"]
    if (isRunning(other) ? flags !== "sentinel" : flags?.includes("s_down") !== true) {
      throw new Error(`Sentinel ${other.port}, ${as}, is ${flags}`)
    }
  }
  // Rejects when there are too few to decide.
  await tell(sentinel, "SENTINEL", "CKQUORUM", name)
}

const record = (reply: Reply): Readonly<Record<string, string>> => {
  const fields = reply as ReadonlyArray<string>
  return Object.fromEntries(
    Array.from({ length: fields.length / 2 }, (_, i) => [fields[2 * i] ?? "", fields[2 * i + 1] ?? ""])
  )
}

const records = (reply: Reply) => (reply as ReadonlyArray<Reply>).map(record)
