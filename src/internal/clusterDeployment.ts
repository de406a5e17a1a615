/** Redis as a Cluster: calls go to the servers that have their keys. */
import { Effect, type Random, Result, type Scope } from "effect"
import type { Redis as Client } from "ioredis"
import { RedisError } from "../RedisError.ts"
import type { ClusterSettings } from "../RedisSettings.ts"
import { running } from "./call.ts"
import { makeCluster, type Node } from "./cluster.ts"
import { makeClusterClient } from "./clusterClient.ts"
import type { ConnectionState } from "./connection.ts"
import type { Build, Deployment, Open } from "./deployment.ts"
import { toRedisError } from "./failure.ts"
import { commonSlot, slotOf } from "./hashSlot.ts"
import { nameOfPlace, type Place, type WatchMaster } from "./place.ts"

export interface ClusterDeploymentOptions {
  readonly settings: ClusterSettings
  readonly namespace: string
  readonly open: Open
  /** A client that is never connected. */
  readonly makeClient: () => Client
  readonly connectTimeoutMillis: number
  readonly commandTimeoutMillis: number
  readonly random: typeof Random.Random["Service"]
  readonly onState: (state: ConnectionState) => void
}

export const clusterDeployment = (
  { commandTimeoutMillis, connectTimeoutMillis, makeClient, namespace, onState, open, random, settings }:
    ClusterDeploymentOptions
): Effect.Effect<Deployment, never, Scope.Scope> =>
  Effect.gen(function*() {
    const connectAll = (purpose: string, seeds: ReadonlyArray<Place>, onState: (state: ConnectionState) => void) =>
      makeCluster({
        seeds,
        natMap: settings.natMap,
        readFromReplicas: settings.readFrom === "replica",
        connectTimeoutMillis,
        commandTimeoutMillis,
        random,
        makeClient,
        onState,
        open: (place, { onState, routing }) => open(purpose, { place, onState, routing })
      })
    const seeds = settings.nodes.map(({ host, port = 6379 }) => ({ host, port }))
    const cluster = yield* connectAll("commands", seeds, onState)
    // The same server for all who publish and subscribe in a namespace: then it knows how many listen.
    const pubSubSlot = slotOf(namespace)
    const { client, run: runEach } = makeClusterClient(makeClient(), cluster.start, commandTimeoutMillis, pubSubSlot)
    const runAt = running(cluster.start)

    /** The place of a server, looked for anew each time. */
    const placeOf = (slot: number | undefined) => (): Promise<Node["place"]> => {
      const node = cluster.nodeOf(slot)
      return node === undefined ? Promise.reject(nobody("connect")) : Promise.resolve(node.place)
    }

    /** Subscriptions need not wait any longer for a server that died. */
    const watchMaster: WatchMaster = (watcher) =>
      cluster.watch(() => {
        const node = cluster.nodeOf(pubSubSlot)
        if (node !== undefined) watcher(node.place)
      })

    const multi = (build: Build) =>
      Effect.suspend(() => {
        const slot = slotOfAll("multi", build, client)
        return slot instanceof RedisError
          ? Effect.fail(slot)
          : runAt("multi", (node) => build(node.multi()).exec(), { slot })
      })

    return {
      client,
      run: (command, send, options) =>
        options?.slot === undefined && options?.sendInFull === undefined
          ? runEach(command, send, options)
          : runAt(command, send, options),
      connected: cluster.connected,
      openDurable: Effect.map(
        Effect.suspend(() =>
          connectAll("durable", [...cluster.masters().map(({ place }) => place), ...seeds], () => {})
        ),
        (durable) => running(durable.start)
      ),
      slotOf: commonSlot,
      multi,
      pipeline: (build) =>
        Effect.map(runEach("pipeline", async (each) => await build(each.pipeline()).exec() ?? []), (replies) =>
          replies.map(([error, reply]) =>
            error === null ? Result.succeed(reply) : Result.fail(toRedisError("pipeline", error, true))
          )),
      servers: Effect.map(
        cluster.eventually(() => cluster.masters().length > 0),
        () =>
          cluster.masters().map(({ connection, place }) => ({
            address: nameOfPlace(place),
            run: (command, send, options) => connection.calls.run(command, send, { ...options, pinned: true })
          }))
      ),
      openSubscriptions: (onState) =>
        Effect.tap(
          open("subscriptions", { onState, place: placeOf(pubSubSlot), watchMaster }),
          ({ client }) =>
            Effect.acquireRelease(
              Effect.sync(() =>
                cluster.watch(() => {
                  const { host, port } = client.options
                  // One that has left the Cluster hears no messages any more.
                  if (client.status === "ready" && !cluster.knows({ host: host!, port: port! })) client.stream.destroy()
                })
              ),
              (stop) => Effect.sync(stop)
            )
        ),
      openReserved: (key) =>
        Effect.suspend(() => {
          const slot = key === undefined ? undefined : slotOf(key)
          return Effect.andThen(
            cluster.eventually(() => cluster.nodeOf(slot) !== undefined),
            Effect.tap(
              open("reserved", { exclusive: true, place: placeOf(slot), misdirected: cluster.outdated }),
              (reserved) => reserved.eventually
            )
          )
        }),
      cluster: {
        openShard: (server, onState) => open("subscriptions", { onState, place: cluster.placeNamed(server) }),
        serverOf: (slot) => {
          const node = cluster.nodeOf(slot)
          return node === undefined ? undefined : nameOfPlace(node.place)
        },
        watch: cluster.watch,
        outdated: cluster.outdated
      }
    }
  })

/** The slot of a transaction's keys: it is built once to find them. */
const slotOfAll = (command: string, build: Build, client: Client): number | undefined | RedisError => {
  let commands: ReadonlyArray<{ readonly name: string; readonly getKeys: () => ReadonlyArray<string | Buffer> }>
  try {
    commands = (build(client.pipeline()) as unknown as { readonly _queue: typeof commands })._queue
  } catch (cause) {
    return toRedisError(command, cause, false)
  }
  const keys = commands.flatMap((one, i) =>
    one.getKeys().map((key) => ({ key, name: `command ${i + 1} (${one.name})` }))
  )
  return commonSlot(command, keys.map(({ key }) => key), (place) => `a key of ${keys[place]!.name}`)
}

const nobody = (command: string) =>
  new RedisError({
    command,
    reason: "cluster-down",
    outcome: "NotSent",
    detail: "nobody in the Cluster is in charge of that hash slot now"
  })
