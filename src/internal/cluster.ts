/** The servers of a Redis Cluster: who is in charge of which slots, a connection to each, and where calls go. */
import { Effect, Exit, type Random, Scope } from "effect"
import type { Redis as Client } from "ioredis"
import { RedisError } from "../RedisError.ts"
import type { NatMap } from "../RedisSettings.ts"
import type { CallRequest, Calls, Routing } from "./call.ts"
import { makeCalls } from "./calls.ts"
import { makeLook } from "./clusterLook.ts"
import type { Connection, ConnectionState } from "./connection.ts"
import { connectError } from "./failure.ts"
import { nameOfPlace, type Place, placeOfName } from "./place.ts"
import { redirectedTo, type SlotMap, unknownSlots } from "./slotMap.ts"

export interface ClusterOptions {
  readonly seeds: ReadonlyArray<Place>
  readonly natMap: NatMap | undefined
  readonly readFromReplicas: boolean
  readonly connectTimeoutMillis: number
  readonly commandTimeoutMillis: number
  readonly random: typeof Random.Random["Service"]
  /** Opens a connection to one server, in one go. */
  readonly open: (
    place: Place,
    more: { readonly routing: Routing; readonly onState: (state: ConnectionState) => void }
  ) => Effect.Effect<Connection, never, Scope.Scope>
  /** A client that is never connected. */
  readonly makeClient: () => Client
  readonly onState: (state: ConnectionState) => void
}

/** One server. */
export interface Node {
  readonly place: Place
  readonly connection: Connection
  readonly scope: Scope.Closeable
  ready: boolean
  /** Why there is no connection. */
  failure: RedisError | undefined
}

export interface Cluster {
  /** Starts a call with whoever is in charge. */
  readonly start: Calls["start"]
  /** Succeeds when all slots are served; fails with what is wrong, at the latest after the connect timeout. */
  readonly connected: Effect.Effect<void, RedisError>
  /** Succeeds when `isThere`; waits for servers that are away as long as a call does, and fails with what is wrong. */
  readonly eventually: (isThere: () => boolean) => Effect.Effect<void, RedisError>
  /** The servers that have slots, by their names' order. */
  readonly masters: () => ReadonlyArray<Node>
  /** The server in charge of a slot, or any. */
  readonly nodeOf: (slot: number | undefined) => Node | undefined
  /** Whether a server is one of them, master or replica, as far as is known. */
  readonly knows: (place: Place) => boolean
  /** Where the server of that name is. */
  readonly placeNamed: (name: string) => Place
  /** Has it look soon who is in charge of what. */
  readonly outdated: () => void
  /** Called after slots have changed hands, and when a server comes or goes. */
  readonly watch: (watcher: () => void) => () => void
}

/** How often we look whether slots have changed hands without our noticing. */
const lookMillis = 15_000
/** How soon we look again while somebody is missing. */
const missingMillis = 200
const idleLookMillis = 100

/** Connects to all masters of a Cluster, until the scope closes. */
export const makeCluster = (options: ClusterOptions): Effect.Effect<Cluster, never, Scope.Scope> =>
  Effect.gen(function*() {
    const context = yield* Effect.context()
    const nodes = new Map<string, Node>()
    const retired = new Map<Node, NodeJS.Timeout>()
    const leaving = new Set<Promise<void>>()
    const watchers = new Set<() => void>()
    let slots: SlotMap = unknownSlots()
    let epoch = 0
    let whole = false
    let closing = false

    const anyOf = <A>(all: ReadonlyArray<A>): A | undefined =>
      all[Math.floor(options.random.nextDoubleUnsafe() * all.length)]

    const changed = () => {
      for (const watcher of [...watchers]) watcher()
    }

    const failure = (): RedisError | undefined =>
      look.refusal() ?? [...nodes.values()].find((node) => node.failure !== undefined)?.failure

    const trouble = (): RedisError =>
      failure() ?? ([...nodes.values()].some(({ ready }) => ready) ? uncovered() : silent())

    // Calls wait here while nobody is in charge.
    const nowhere = makeCalls(options.makeClient(), {
      defaultTimeoutMillis: options.commandTimeoutMillis,
      exclusive: false,
      lastFailure: () => trouble(),
      routing: {
        ownerOf: (request) => ownerOf(request),
        moved: () => nowhere,
        asked: () => nowhere,
        outdated: () => {}
      }
    })

    const nodeAt = (place: Place): Node => {
      const known = nodes.get(nameOfPlace(place))
      if (known !== undefined) return known
      const scope = Scope.makeUnsafe()
      const routing: Routing = {
        ownerOf,
        moved: (slot, address) => {
          const to = nodeAt(redirectedTo(address, place, options.natMap))
          slots.owners[slot] = nameOfPlace(to.place)
          look.within(0)
          return to.connection.calls
        },
        asked: (address) => nodeAt(redirectedTo(address, place, options.natMap)).connection.calls,
        outdated: () => look.within(0)
      }
      const onState = (state: ConnectionState) => {
        if (state._tag !== "Ready" && state._tag !== "Disconnected") return
        node.ready = state._tag === "Ready"
        node.failure = state._tag === "Ready" ? undefined : state.error ?? node.failure
        if (closing) return
        look.within(0)
        judge()
        // While nobody is known yet, whoever watches learns what stands in the way.
        if (slots.places.size === 0 && !node.ready) {
          options.onState({ _tag: "Disconnected", epoch, error: node.failure })
        }
      }
      const connection = Effect.runSyncWith(context)(
        Scope.provide(options.open(place, { routing, onState: (state) => onState(state) }), scope)
      )
      const node: Node = { place, connection, scope, ready: false, failure: undefined }
      nodes.set(nameOfPlace(place), node)
      return node
    }

    /** Has a server go that is no part of the Cluster any more, when what it was asked is answered. */
    const retire = (node: Node): void => {
      nodes.delete(nameOfPlace(node.place))
      const close = () => {
        if (node.connection.calls.reroute() > 0) return
        clearInterval(retired.get(node))
        retired.delete(node)
        const leaves = Effect.runPromiseWith(context)(Scope.close(node.scope, Exit.void)).then(() =>
          void leaving.delete(leaves)
        )
        leaving.add(leaves)
      }
      retired.set(node, setInterval(close, idleLookMillis))
      close()
    }

    const nodeOf = (slot: number | undefined): Node | undefined => {
      if (slot !== undefined) return nodes.get(slots.owners[slot] ?? "")
      const ready = [...nodes.values()].filter((node) => node.ready)
      const masters = ready.filter((node) => slots.replicas.has(nameOfPlace(node.place)))
      return anyOf(masters) ?? anyOf(ready)
    }

    const ownerOf = ({ fromReplica, pinned, slot }: CallRequest): Calls | undefined => {
      if (pinned === true) return undefined
      const node = nodeOf(slot)
      if (node === undefined) return nowhere
      if (fromReplica !== true || !options.readFromReplicas) return node.connection.calls
      const replicas = (slots.replicas.get(nameOfPlace(node.place)) ?? []).flatMap((name) => nodes.get(name) ?? [])
      return (anyOf(replicas.filter(({ ready }) => ready)) ?? node).connection.calls
    }

    const masters = (): ReadonlyArray<Node> =>
      [...slots.replicas.keys()].toSorted().flatMap((name) => nodes.get(name) ?? [])

    /** Tells whether all is well, when that has changed. */
    const judge = (): void => {
      const now = slots.isWhole && [...slots.replicas.keys()].every((name) => nodes.get(name)?.ready === true)
      if (now !== whole) {
        whole = now
        if (whole) epoch++
        options.onState(whole ? { _tag: "Ready", epoch } : { _tag: "Disconnected", epoch, error: failure() })
      }
      changed()
    }

    const learn = (next: SlotMap): void => {
      slots = next
      const wanted = new Set(
        options.readFromReplicas ? next.places.keys() : [...next.replicas.keys()]
      )
      for (const name of wanted) setReadOnly(nodeAt(next.places.get(name)!), !next.replicas.has(name))
      for (const [name, node] of nodes) if (!wanted.has(name)) retire(node)
      nowhere.reroute()
      for (const node of nodes.values()) if (!node.ready) node.connection.calls.reroute()
      judge()
    }

    const look = makeLook({
      natMap: options.natMap,
      random: options.random,
      ready: () => [...nodes.values()].filter((node) => node.ready),
      learn,
      looked: () => {
        if (![...nodes.values()].some((node) => node.ready)) { for (const seed of options.seeds) nodeAt(seed) }
        changed()
        return whole ? lookMillis : missingMillis
      }
    })

    yield* Effect.addFinalizer(() =>
      Effect.suspend(() => {
        closing = true
        look.stop()
        for (const poll of retired.values()) clearInterval(poll)
        nowhere.close()
        const all = [...nodes.values(), ...retired.keys()]
        return Effect.forEach(all, ({ scope }) => Scope.close(scope, Exit.void), { concurrency: "unbounded" }).pipe(
          Effect.andThen(Effect.promise(() => Promise.all(leaving))),
          Effect.andThen(Effect.sync(() => options.onState({ _tag: "Closed", epoch })))
        )
      })
    )
    options.onState({ _tag: "Connecting", epoch })
    for (const seed of options.seeds) nodeAt(seed)

    const connectedWithin = (millis: number, isThere: () => boolean, isPatient: boolean) =>
      Effect.callback<void, RedisError>((resume) => {
        const done = (effect: Effect.Effect<void, RedisError>) => {
          clearTimeout(late)
          watchers.delete(check)
          resume(effect)
        }
        const check = () => {
          if (isThere()) return done(Effect.void)
          const refusal = look.refusal()
          if (refusal !== undefined) return done(Effect.fail(refusal))
          if (isPatient) return
          const failures = [...nodes.values()].flatMap((node) => node.failure ?? [])
          // One of them may be starting; not all of them.
          const hopeless = failures.length === nodes.size && failures.every(({ reason }) => reason !== "loading")
          if (slots.places.size === 0 && hopeless) done(Effect.fail(failures[0]!))
        }
        const late = setTimeout(() => done(Effect.fail(trouble())), millis)
        watchers.add(check)
        check()
        return Effect.sync(() => done(Effect.void))
      })

    return {
      start: (request) => (ownerOf(request) ?? nowhere).start(request),
      connected: connectedWithin(options.connectTimeoutMillis, () => whole, false),
      eventually: (isThere) => connectedWithin(options.commandTimeoutMillis, isThere, true),
      masters,
      nodeOf,
      knows: (place) => slots.places.size === 0 || slots.places.has(nameOfPlace(place)),
      placeNamed: (name) => slots.places.get(name) ?? placeOfName(name),
      outdated: () => look.within(0),
      watch: (watcher) => {
        watchers.add(watcher)
        return () => {
          watchers.delete(watcher)
        }
      }
    }
  })

/** A replica's server lets only those read who say that an old value will do; where it is the master, nobody says so. */
const setReadOnly = ({ connection: { client } }: Node, readOnly: boolean): void => {
  if (client.options.readOnly === readOnly) return
  client.options.readOnly = readOnly
  // One that is not ready yet says so when it is.
  if (client.status !== "ready") return
  const said = readOnly ? client.readonly() : client.readwrite()
  said.catch(() => {})
}

const silent = () => connectError("connect", new Error("timed out: no server of the Cluster answers"), "NotSent")

const uncovered = () =>
  new RedisError({
    command: "connect",
    reason: "cluster-down",
    outcome: "NotSent",
    detail: "the Cluster has hash slots that no server is in charge of"
  })
