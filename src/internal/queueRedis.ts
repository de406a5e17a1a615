/** The queue engine on Redis: lays out what scripts take, and reads what they reply. */
import { Effect, PubSub, RcMap, type Scope, Stream } from "effect"
import type { RedisClient } from "../RedisClient.ts"
import type { RedisError } from "../RedisError.ts"
import { sharedNamespace } from "./keys.ts"
import { partitionBase } from "./partitionKeys.ts"
import { registerProbe } from "./probes.ts"
import * as admin from "./queueAdminScripts.ts"
import type {
  Acknowledgement,
  Claim,
  JobSnapshot,
  ListedState,
  NewJob,
  QueueCounts,
  QueueEngine,
  QueueSettings,
  QueueStore,
  Report,
  StepReply
} from "./queueEngine.ts"
import * as enqueueScript from "./queueEnqueueScript.ts"
import { makeGathering } from "./queueGathering.ts"
import { shortened } from "./queueIdList.ts"
import { makeInbox } from "./queueInbox.ts"
import { type QueueKey, queueKeyNames } from "./queueKeys.ts"
import * as looking from "./queueLookScripts.ts"
import {
  readFailure,
  readOutcome,
  readRecord,
  unknownOutcome,
  withNul,
  withoutNul,
  writeRecord
} from "./queueRecord.ts"
import * as stepScript from "./queueStepScript.ts"
import { type Hub, pairs, readForAll } from "./queueTransitions.ts"

type Client = RedisClient["Service"]

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
    const inbox = yield* makeInbox(client)
    return {
      inbox,
      isRemote: true,
      registerProbe: (probe) => registerProbe(client, probe),
      open: ({ partition = 0, queue, shared }) => {
        const base = partitionBase(shared ? sharedNamespace : client.namespace, queue, partition)
        let store = stores.get(base)
        if (store === undefined) {
          store = makeStore(client, settings, base, hubs)
          stores.set(base, store)
        }
        return store
      }
    }
  })

const makeStore = (
  client: Client,
  settings: QueueSettings,
  base: string,
  hubs: RcMap.RcMap<string, Hub, RedisError>
): QueueStore => {
  const keys = Object.fromEntries(queueKeyNames.map((name) => [name, `${base}:${name}`])) as Record<QueueKey, string>
  const event_batches = settings.eventBatches
  const hears_all = client.topology === "cluster" ? "0" : "1"
  const common = { ...keys, address: base, event_batches, hears_all }

  const store = (jobs: ReadonlyArray<NewJob>, all_new: "0" | "1") =>
    client.script(enqueueScript.enqueue, {
      queued: all_new === "1" ? shortened(jobs.map((job) => job.id)) : "",
      ...common,
      all_new,
      places: uniform(jobs.map(placeOf)),
      tenants: jobs.some((job) => job.record.tenant !== undefined)
        ? jobs.map((job) => job.record.tenant === undefined ? "" : encodeURIComponent(job.record.tenant)).join("\0")
        : "",
      new_jobs: idsAndRecords(jobs)
    }, { repeatable: true, replicas: settings.replicas })

  const gather = makeGathering(store)

  const look = (id: string, owner: string) =>
    Effect.map(
      client.script(looking.look, {
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
    maxCrashes: settings.maxCrashes,
    enqueue: (jobs) =>
      jobs.length === 1
        ? gather(jobs[0]!)
        : Effect.map(store(jobs, jobs.every((job) => job.idIsNew) ? "1" : "0"), (known) => areNew(jobs.length, known)),
    step: (request) =>
      Effect.map(
        client.script(stepScript.step, {
          ...common,
          owner: request.owner,
          number: request.number,
          unheard: request.unheard.join("\0"),
          reports: writeReports(request.reports),
          extend: request.extend.join(" "),
          want: request.want,
          ahead: request.ahead,
          takes_last_chance: request.takesLastChance ? "1" : "0",
          lease_millis: request.leaseMillis,
          sleep_millis: request.sleepMillis,
          outcome_millis: settings.outcomeMillis,
          outcome_count: settings.outcomeCount,
          dead_millis: settings.deadMillis,
          max_crashes: settings.maxCrashes,
          last_chance_millis: settings.lastChanceMillis
        }),
        readStep
      ),
    leave: (owner, unheard) =>
      Effect.asVoid(
        client.script(admin.leave, { ...common, owner, unheard: unheard.join("\0") }, { repeatable: true })
      ),
    look: (id) => look(id, ""),
    expect: look,
    change: (id, change) =>
      Effect.map(
        // Not repeatable: a repetition would say that there was nothing to do.
        client.script(admin.change, {
          ...common,
          kind: change.kind,
          id,
          reason: change.kind === "cancel" ? withoutNul(change.reason) : ""
        }),
        (reply) => reply === 2 ? "done" : reply === 1 ? "requested" : "unchanged"
      ),
    setPaused: (paused) =>
      Effect.asVoid(
        client.script(admin.setPaused, { ...common, paused_now: paused ? 1 : 0 }, { repeatable: true })
      ),
    counts: Effect.map(
      client.script(looking.counts, keys, { repeatable: true }),
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
        client.script(looking.list, { ...keys, state, cursor, limit }, { repeatable: true }),
        ([next, page]) => ({
          jobs: page.flatMap((reply) => readSnapshot(reply) ?? []),
          next: next === "" ? undefined : next
        })
      ),
    drainSome: (state) => client.script(admin.drain, { ...common, state }),
    transitions: Effect.map(
      Effect.flatMap(RcMap.get(hubs, keys.events), PubSub.subscribe),
      (subscription) => Stream.mapEffect(Stream.fromSubscription(subscription), Effect.fromResult)
    )
  }
}

const idsAndRecords = (jobs: ReadonlyArray<NewJob>): ReadonlyArray<string> => {
  const out: Array<string> = []
  for (const { id, record } of jobs) out.push(id, writeRecord(record))
  return out
}

const uniform = (places: ReadonlyArray<string>): string =>
  places.every((place) => place === places[0]) ? places[0]! : places.join("\0")

const placeOf = ({ due, record }: NewJob): string =>
  `${record.priority}${record.lifo ? "l" : ""}${
    due === undefined ? "" : "inMillis" in due ? `+${Math.ceil(due.inMillis)}` : `@${Math.ceil(due.atMillis)}`
  }`

/** Which of `count` jobs are new, when those at `known` are not. */
export const areNew = (count: number, known: ReadonlyArray<number>): ReadonlyArray<boolean> => {
  const isNew = Array.from({ length: count }, () => true)
  for (const place of known) isNew[place] = false
  return isNew
}

const reportLetters = { complete: "c", dead: "d", cancelled: "x", retry: "r", release: "g" } as const

/** Reports that follow each other and are alike but for their ids are written as one. */
const writeReports = (reports: ReadonlyArray<Acknowledgement>): string => {
  let text = ""
  let from = 0
  while (from < reports.length) {
    const first = reports[from]!
    const data = dataOf(first.report)
    let ids = first.id
    let to = from + 1
    for (; to < reports.length; to++) {
      const next = reports[to]!
      if (
        next.token !== first.token || next.report.kind !== first.report.kind || next.tenant !== first.tenant ||
        dataOf(next.report) !== data
      ) break
      ids += `\0${next.id}`
    }
    const tenant = first.tenant === undefined ? "" : encodeURIComponent(first.tenant)
    text += `${from === 0 ? "" : "\0"}${reportLetters[first.report.kind]}\0${first.token}\0${tenant}\0${data}\0${
      to - from
    }\0${ids}`
    from = to
  }
  return text
}

const dataOf = (report: Report): string =>
  report.kind === "retry"
    ? `${Math.ceil(report.delayMillis)};${report.failure}`
    : report.kind === "release"
    ? `${Math.ceil(report.delayMillis)};`
    : report.kind === "cancelled"
    ? withoutNul(report.outcome)
    : report.outcome

const readStep = (
  [claims, refused, lost, cancels, paused, willCall, next]: stepScript.StepReply
): StepReply => ({
  claims: readClaims(claims),
  refused,
  lost: lost.map(Number),
  cancels: pairs(cancels).map(([id, reason]) => ({ id, reason: withNul(reason) })),
  paused: paused === 1,
  willCall: willCall === 1,
  nextMillis: next === -1 ? undefined : next
})

const readClaims = (flat: ReadonlyArray<string>): ReadonlyArray<Claim> => {
  const claims: Array<Claim> = []
  for (let i = 0; i < flat.length; i += 3) {
    const token = Number(flat[i])
    const ids = flat[i + 1]!.split("\0")
    const records = flat[i + 2]!.split("\0")
    for (let n = 0; n < ids.length; n++) {
      claims.push({ id: ids[n]!, token, record: readRecord(records[n]!) })
    }
  }
  return claims
}

const readSnapshot = (
  [id, record, outcome, failure, due, holder]: looking.SnapshotReply
): JobSnapshot | undefined => {
  if (record === null && outcome === null) return undefined
  const ended = outcome === null ? undefined : readOutcome(withNul(outcome)) ?? unknownOutcome(outcome)
  return {
    id,
    state: ended?.state ?? (holder !== null ? "active" : due !== null ? "delayed" : "waiting"),
    record: record === null ? undefined : readRecord(record),
    outcome: ended,
    failure: failure === null ? undefined : readFailure(failure.slice(failure.indexOf(";") + 1)),
    dueAt: due === null ? undefined : Number(due)
  }
}
