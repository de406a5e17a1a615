/** The queue engine on Redis: lays out what scripts take, and reads what they reply. */
import { Effect, PubSub, RcMap, Result, type Scope, Stream } from "effect"
import type { RedisClient } from "../RedisClient.ts"
import type { RedisError } from "../RedisError.ts"
import { keyBase, sharedNamespace } from "./keys.ts"
import { registerProbe } from "./probes.ts"
import * as admin from "./queueAdminScripts.ts"
import type {
  Acknowledgement,
  Change,
  JobSnapshot,
  Letter,
  ListedState,
  NewJob,
  QueueCounts,
  QueueEngine,
  QueueSettings,
  QueueStore,
  StepReply,
  Transition,
  TransitionKind
} from "./queueEngine.ts"
import { type QueueKey, queueKeyNames } from "./queueLua.ts"
import { readFailure, readOutcome, readRecord, writeRecord } from "./queueRecord.ts"
import * as scripts from "./queueScripts.ts"

type Client = RedisClient["Service"]

/** How many enqueues of single jobs go into one call at most; they gather while an earlier call is on its way. */
const gatherAtMost = 1000
/** How long the payloads in one such call are together, unless a single one is longer: they hold up the server. */
const gatherCharacters = 1024 * 1024

/** An engine on `client`, with its inbox. */
export const makeRedisEngine = (
  client: Client,
  settings: QueueSettings
): Effect.Effect<QueueEngine, never, Scope.Scope> =>
  Effect.gen(function*() {
    const stores = new Map<string, QueueStore>()
    const hubs: RcMap.RcMap<string, Hub, RedisError> = yield* RcMap.make({
      // Whoever comes after a failure begins anew.
      lookup: (eventsKey: string) =>
        readForAll(client, eventsKey, Effect.suspend(() => RcMap.invalidate(hubs, eventsKey)))
    })
    return {
      inbox: makeInbox(client),
      losesLetters: true,
      registerProbe: (probe) => registerProbe(client, probe),
      open: ({ queue, shared }) => {
        const base = keyBase(shared ? sharedNamespace : client.namespace, "queue", queue)
        let store = stores.get(base)
        if (store === undefined) {
          store = makeStore(client, settings, base, hubs)
          stores.set(base, store)
        }
        return store
      }
    }
  })

const makeInbox = (client: Client): QueueEngine["inbox"] => {
  const address = `${client.namespace}:inbox:${crypto.randomUUID().slice(0, 13)}`
  // All listeners are handed the same message one after the other: it is read once.
  let message = ""
  let letter: Letter | undefined
  const read = (received: string) => {
    if (received !== message) {
      message = received
      letter = readLetter(received)
    }
    return letter
  }
  return {
    address,
    listen: (listener) =>
      client.subscribe("channel", address, {
        onMessage: (received) => {
          const letter = read(received)
          if (letter !== undefined) listener(letter)
        },
        // Letters that came while the connection was away are lost: whoever waits for one looks for itself.
        onGap: () => listener({ kind: "wake", queue: "" })
      })
  }
}

/** `w<queue>`, `c<queue> NUL <id> NUL <reason>`, `f<queue> NUL <id>`. */
const readLetter = (message: string): Letter | undefined => {
  const [queue = "", id = "", ...rest] = message.slice(1).split("\0")
  switch (message[0]) {
    case "w":
      return { kind: "wake", queue }
    case "c":
      return { kind: "cancel", queue, id, reason: rest.join("\0") }
    case "f":
      return { kind: "finished", queue, id }
    default:
      return undefined
  }
}

const makeStore = (
  client: Client,
  settings: QueueSettings,
  base: string,
  hubs: RcMap.RcMap<string, Hub, RedisError>
): QueueStore => {
  const keys = Object.fromEntries(queueKeyNames.map((name) => [name, `${base}:${name}`])) as Record<QueueKey, string>
  const event_batches = settings.eventBatches
  const common = { ...keys, address: base, event_batches }

  const store = (jobs: ReadonlyArray<NewJob>, all_new: "0" | "1") =>
    client.script(scripts.enqueue, {
      ...common,
      all_new,
      ids: jobs.map((job) => job.id).join("\0"),
      places: uniform(jobs.map(placeOf)),
      tenants: jobs.some((job) => job.record.tenant !== undefined)
        ? jobs.map((job) => job.record.tenant === undefined ? "" : encodeURIComponent(job.record.tenant)).join("\0")
        : "",
      records: jobs.map((job) => writeRecord(job.record))
    }, { repeatable: true })

  const gather = makeGathering(store)

  const look = (id: string, owner: string) =>
    Effect.map(
      client.script(admin.look, {
        jobs: keys.jobs,
        outcomes: keys.outcomes,
        failures: keys.failures,
        delayed: keys.delayed,
        holders: keys.holders,
        awaited: keys.awaited,
        id,
        inbox: owner
      }, { repeatable: true }),
      readSnapshot
    )

  return {
    address: base,
    enqueue: (jobs) =>
      jobs.length === 1
        ? gather(jobs[0]!)
        : Effect.map(
          store(jobs, jobs.every((job) => job.idIsNew) ? "1" : "0"),
          (replies) => replies.map((reply) => reply === 1)
        ),
    step: (request) =>
      Effect.map(
        client.script(scripts.step, {
          ...common,
          owner: request.owner,
          reports: request.reports.length === 0 ? "" : writeReports(request.reports),
          want: request.want,
          lease_millis: request.leaseMillis,
          sleep_millis: request.sleepMillis,
          outcome_millis: settings.outcomeMillis,
          outcome_count: settings.outcomeCount,
          dead_millis: settings.deadMillis,
          max_crashes: settings.maxCrashes
        }),
        readStep
      ),
    leave: (owner) =>
      Effect.asVoid(client.script(admin.leave, { ...keys, address: base, owner }, { repeatable: true })),
    look: (id) => look(id, ""),
    expect: look,
    change: (id, change) =>
      Effect.map(
        client.script(admin.change, {
          ...common,
          kind: change.kind,
          id,
          reason: change.kind === "cancel" ? change.reason : ""
        }, { repeatable: repeatableChanges.has(change.kind) }),
        (reply) => reply === 2 ? "done" : reply === 1 ? "requested" : "unchanged"
      ),
    setPaused: (paused) =>
      Effect.asVoid(
        client.script(admin.setPaused, {
          sleepers: keys.sleepers,
          meta: keys.meta,
          address: base,
          paused: paused ? 1 : 0
        }, { repeatable: true })
      ),
    counts: Effect.map(
      client.script(admin.counts, keys, { repeatable: true }),
      ([waiting, delayed, active, failed, finished, paused, oldest]): QueueCounts => ({
        waiting,
        delayed,
        active,
        failed,
        finished,
        paused: paused === 1,
        oldestEnqueuedAt: oldest === -1 ? undefined : oldest
      })
    ),
    list: (state: ListedState, cursor, limit) =>
      Effect.map(
        client.script(admin.list, { ...keys, state, cursor, limit }, { repeatable: true }),
        ([next, page]) => ({
          jobs: page.flatMap((reply) => readSnapshot(reply) ?? []),
          next: next === "" ? undefined : next
        })
      ),
    drainSome: (state) => client.script(admin.drain, { ...common, state }),
    transitions: Stream.unwrap(
      Effect.map(RcMap.get(hubs, keys.events), (hub) => Stream.mapEffect(Stream.fromPubSub(hub), Effect.fromResult))
    )
  }
}

// Doing these twice in a row is doing them once; a job that was retried may have died again in between.
const repeatableChanges: ReadonlySet<Change["kind"]> = new Set(["cancel", "remove", "promote"])

const uniform = (places: ReadonlyArray<string>): string =>
  places.every((place) => place === places[0]) ? places[0]! : places.join("\0")

const placeOf = ({ due, record }: NewJob): string =>
  `${record.priority}${record.lifo ? "l" : ""}${
    due === undefined ? "" : "inMillis" in due ? `+${Math.ceil(due.inMillis)}` : `@${Math.ceil(due.atMillis)}`
  }`

/**
 * Enqueues single jobs in as few calls as possible. The first goes at once; those that come while it is on its way go
 * together when it is back, or when there are enough of them: however many there are, none waits for more than one call.
 */
const makeGathering = (
  store: (jobs: ReadonlyArray<NewJob>, allNew: "0" | "1") => Effect.Effect<ReadonlyArray<number>, RedisError>
) => {
  interface Waiting {
    readonly job: NewJob
    readonly resume: (effect: Effect.Effect<ReadonlyArray<boolean>, RedisError>) => void
  }
  let gathered = new Set<Waiting>()
  let characters = 0
  let onTheirWay = 0

  const send = (): void => {
    const batch = [...gathered]
    gathered = new Set()
    characters = 0
    onTheirWay++
    const jobs = batch.map((waiting) => waiting.job)
    Effect.runFork(store(jobs, jobs.every((job) => job.idIsNew) ? "1" : "0")).addObserver((exit) => {
      onTheirWay--
      if (exit._tag === "Success") {
        batch.forEach((waiting, i) => waiting.resume(Effect.succeed([exit.value[i] === 1])))
      } else {
        for (const waiting of batch) waiting.resume(Effect.failCause(exit.cause))
      }
      if (gathered.size > 0 && onTheirWay === 0) send()
    })
  }
  return (job: NewJob): Effect.Effect<ReadonlyArray<boolean>, RedisError> =>
    Effect.callback((resume) => {
      const waiting: Waiting = { job, resume }
      const { length } = job.record.payload
      if (gathered.size === gatherAtMost || (gathered.size > 0 && characters + length > gatherCharacters)) send()
      gathered.add(waiting)
      characters += length
      if (onTheirWay === 0) send()
      return Effect.sync(() => {
        if (gathered.delete(waiting)) characters -= length
      })
    })
}

const reportLetters = { complete: "c", dead: "d", cancelled: "x", retry: "r", release: "g", extend: "e" } as const

/** A flat array of kind, id, token, tenant and data: what cjson reads fastest. */
const writeReports = (reports: ReadonlyArray<Acknowledgement>): string => {
  const flat: Array<string> = []
  for (const { id, report, tenant, token } of reports) {
    flat.push(
      reportLetters[report.kind],
      id,
      String(token),
      tenant === undefined ? "" : encodeURIComponent(tenant),
      report.kind === "retry"
        ? `${Math.ceil(report.delayMillis)};${report.failure}`
        : report.kind === "release"
        ? `${Math.ceil(report.delayMillis)};`
        : report.kind === "extend"
        ? ""
        : report.outcome
    )
  }
  return JSON.stringify(flat)
}

const readStep = (
  [ids, records, token, refused, cancels, next]: scripts.StepReply
): StepReply => ({
  claims: ids.map((id, i) => ({ id, token, record: readRecord(records[i]!) })),
  refused,
  cancels: pairs(cancels).map(([id, reason]) => ({ id, reason })),
  nextMillis: next === -1 ? undefined : next
})

const pairs = (flat: ReadonlyArray<string>): Array<readonly [string, string]> => {
  const out: Array<readonly [string, string]> = []
  for (let i = 0; i + 1 < flat.length; i += 2) out.push([flat[i]!, flat[i + 1]!])
  return out
}

const readSnapshot = (
  [id, record, outcome, failure, due, holder]: admin.SnapshotReply
): JobSnapshot | undefined => {
  if (record === null && outcome === null) return undefined
  const ended = outcome === null ? undefined : readOutcome(outcome)
  return {
    id,
    state: ended?.state ?? (holder !== null ? "active" : due !== null ? "delayed" : "waiting"),
    record: record === null ? undefined : readRecord(record),
    outcome: ended,
    failure: failure === null ? undefined : readFailure(failure),
    dueAt: due === null ? undefined : Number(due)
  }
}

// A read that blocks this long shows that the connection lives, and costs nothing.
const blockMillis = 5000

/** Where those who listen to one queue get its transitions from, or why there are no more. */
type Hub = PubSub.PubSub<Result.Result<ReadonlyArray<Transition>, RedisError>>

/** Reads a queue's transitions on one reserved connection for all who listen in this process. */
const readForAll = (
  client: Client,
  key: string,
  onFailure: Effect.Effect<void>
): Effect.Effect<Hub, RedisError, Scope.Scope> =>
  Effect.gen(function*() {
    const connection = yield* client.reserve
    const hub: Hub = yield* PubSub.sliding<Result.Result<ReadonlyArray<Transition>, RedisError>>(1024)
    const [newest] = yield* connection.use("xrevrange", (redis) => redis.xrevrange(key, "+", "-", "COUNT", 1), {
      repeatable: true
    })
    let last = newest?.[0] ?? "0-0"
    const readOn = Effect.gen(function*() {
      const reply = yield* connection.use(
        "xread",
        (redis) => redis.xread("COUNT", 200, "BLOCK", blockMillis, "STREAMS", key, last),
        { repeatable: true, timeout: blockMillis * 2 }
      )
      for (const [, entries] of reply ?? []) {
        for (const [id, fields] of entries) {
          last = id
          yield* PubSub.publish(hub, Result.succeed(readTransitions(id, fields)))
        }
      }
    })
    yield* readOn.pipe(
      // An answer of the server is final; a connection comes back.
      Effect.retry({ while: (error) => error.outcome !== "Rejected" }),
      Effect.forever,
      Effect.catch((error) => Effect.andThen(onFailure, PubSub.publish(hub, Result.fail(error)))),
      Effect.forkScoped
    )
    return hub
  })

const readTransitions = (entryId: string, fields: ReadonlyArray<string>): ReadonlyArray<Transition> => {
  const at = Number(entryId.slice(0, entryId.indexOf("-")))
  return pairs(fields).flatMap(([kind, ids]) =>
    ids.split("\0").map((item): Transition => {
      const [id = "", tenant] = item.split("\u0001")
      return {
        kind: kind as TransitionKind,
        id,
        tenant: tenant === undefined ? undefined : decodeURIComponent(tenant),
        at
      }
    })
  )
}
