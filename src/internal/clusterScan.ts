/** SCAN over all masters of a Cluster, which misses nothing that is there all the while, though slots and masters change. */
import { Effect } from "effect"
import { createHash } from "node:crypto"
import type { RedisClient, ServerHandle } from "../RedisClient.ts"
import type { RedisError } from "../RedisError.ts"

type Page = readonly [cursor: string, keys: ReadonlyArray<string>]

/** Where a scan is. It goes from server to server, and begins anew among others. */
interface Position {
  /** Rounds that follow this one, as far as is known. */
  readonly rounds: number
  readonly server: number
  readonly from: string
  /** Who had which slots, as the scan began; empty in the second round. */
  readonly layout: string
  /** The servers that there were then. */
  readonly names: string
}

/**
 * A key that moves to a server which was scanned before, from one which is scanned later, is seen by nobody; so while slots
 * move, all are scanned twice.
 */
export const scanCluster =
  (client: RedisClient["Service"]) =>
  (cursor: string, pattern: string, count: number): Effect.Effect<Page, RedisError> => {
    const begin = (servers: ReadonlyArray<ServerHandle>): Effect.Effect<Position, RedisError> =>
      Effect.map(layoutOf(servers), ({ layout, moving }) => ({
        rounds: moving ? 1 : 0,
        server: 0,
        from: "0",
        layout,
        names: namesOf(servers)
      }))

    const after = (at: Position, servers: ReadonlyArray<ServerHandle>, next: string) => {
      if (next !== "0") return Effect.succeed(spell({ ...at, from: next }))
      const { layout, names, rounds, server } = at
      if (server + 1 < servers.length) return Effect.succeed(spell({ ...at, server: server + 1, from: "0" }))
      if (rounds > 0) return Effect.succeed(spell({ ...at, rounds: rounds - 1, server: 0, from: "0", layout: "" }))
      if (layout === "") return Effect.succeed("0")
      return Effect.map(layoutOf(servers), (now) =>
        now.moving || now.layout !== layout
          ? spell({ rounds: 0, server: 0, from: "0", layout: "", names })
          : "0")
    }

    const scan = (at: Position, servers: ReadonlyArray<ServerHandle>) =>
      Effect.flatMap(
        servers[at.server]!.use("scan", (redis) => redis.scan(at.from, "MATCH", pattern, "COUNT", count), {
          repeatable: true
        }),
        ([next, keys]) => Effect.map(after(at, servers, next), (cursor): Page => [cursor, keys])
      )

    const page: Effect.Effect<Page, RedisError> = Effect.flatMap(client.servers, (servers) => {
      const known = cursor === "0" ? undefined : read(cursor)
      const names = namesOf(servers)
      const at = known?.names === names ? Effect.succeed(known) : begin(servers)
      return Effect.flatMap(at, (at) => scan(at, servers)).pipe(
        // A master may have gone meanwhile, and another be there instead.
        Effect.catchIf(
          () => true,
          (error) => Effect.flatMap(client.servers, (now) => namesOf(now) === names ? Effect.fail(error) : page)
        )
      )
    })
    return page
  }

const namesOf = (servers: ReadonlyArray<ServerHandle>) => servers.map(({ address }) => address).join()

const spell = ({ from, layout, names, rounds, server }: Position) => [rounds, server, from, layout, names].join(" ")

const read = (cursor: string): Position => {
  const [rounds = "0", server = "0", from = "0", layout = "", names = ""] = cursor.split(" ")
  return { rounds: Number(rounds), server: Number(server), from, layout, names }
}

/** Which slots each server has, and whether it is handing over any of them or taking some over. */
const layoutOf = (servers: ReadonlyArray<ServerHandle>) =>
  Effect.map(
    Effect.forEach(
      servers,
      ({ use }) =>
        use("cluster nodes", (redis) => redis.cluster("NODES"), { repeatable: true }).pipe(
          Effect.map(slotsOfMyself),
          // Who may not ask has to expect it.
          Effect.catchIf(({ reason }) => reason === "no-permission", () => Effect.succeed("[unknown"))
        ),
      { concurrency: "unbounded" }
    ),
    (slots) => ({
      layout: createHash("sha1").update(slots.join("\n")).digest("base64url"),
      moving: slots.some((each) => each.includes("["))
    })
  )

// Behind the eight fields of a node stand its slots, in brackets those on their way.
const slotsOfMyself = (nodes: unknown): string =>
  String(nodes).split("\n").find((line) => line.split(" ")[2]?.includes("myself"))?.split(" ").slice(8).join(" ") ?? ""
