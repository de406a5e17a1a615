/** The queue engine in this process: what the scripts do, on plain data, under Effect's Clock. */
import { Clock, Effect, PubSub, Stream } from "effect"
import type {
  Acknowledgement,
  Change,
  ChangeReply,
  Claim,
  JobSnapshot,
  JobState,
  Letter,
  ListedState,
  NewJob,
  QueueCounts,
  QueueEngine,
  QueueSettings,
  QueueStore,
  StepReply,
  StepRequest,
  Transition,
  TransitionKind
} from "./queueEngine.ts"
import {
  type JobRecord,
  type Outcome,
  readFailure,
  readOutcome,
  type StoredFailure,
  writeOutcome
} from "./queueRecord.ts"

type Place = "ready" | "delayed" | "active"

/** A job that has not ended, or a dead letter. */
interface Stored {
  record: JobRecord
  /** Undefined for a dead letter. Set by `move`. */
  place: Place | undefined
  dueAt: number
  leaseUntil: number
  holder: { readonly token: number; readonly owner: string } | undefined
  failure: StoredFailure | undefined
  /** The claim whose report that was: it may come again. */
  failedBy: number | undefined
  cancel: string | undefined
}

// As Redis orders members with equal scores.
const compareIds = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b))

/** An engine whose queues live as long as it does. */
export const makeMemoryEngine = (settings: QueueSettings): QueueEngine => {
  const stores = new Map<string, QueueStore>()
  const listeners = new Map<(letter: Letter) => void, string>()
  const post = (to: string, letter: Letter) => {
    for (const [listener, queue] of [...listeners]) if (queue === to) listener(letter)
  }
  return {
    isRemote: false,
    registerProbe: () => Effect.void,
    inbox: {
      address: "memory",
      listen: (queue, listener) =>
        Effect.asVoid(Effect.acquireRelease(
          Effect.sync(() => listeners.set(listener, queue)),
          () => Effect.sync(() => listeners.delete(listener))
        ))
    },
    open: ({ queue, shared }) => {
      const address = `${shared ? "shared" : "own"}:${queue}`
      let store = stores.get(address)
      if (store === undefined) {
        store = makeStore(address, settings, (letter) => post(address, letter))
        stores.set(address, store)
      }
      return store
    }
  }
}

const makeStore = (address: string, settings: QueueSettings, deliver: (letter: Letter) => void): QueueStore => {
  const jobs = new Map<string, Stored>()
  const outcomes = new Map<string, Outcome>()
  // The token of the claim that ended a job: its report may come again.
  const endedBy = new Map<string, number>()
  /** Dead letters, the oldest first. */
  const dead = new Set<string>()
  const forget = (id: string) => {
    outcomes.delete(id)
    endedBy.delete(id)
    dead.delete(id)
  }
  // Looked for with each step: few, among all that wait.
  const delayed = new Map<string, Stored>()
  const active = new Map<string, Stored>()
  const move = (id: string, job: Stored, place: Place | undefined) => {
    delayed.delete(id)
    active.delete(id)
    if (place === "delayed") delayed.set(id, job)
    if (place === "active") active.set(id, job)
    job.place = place
  }
  const ready: ReadonlyArray<Array<string>> = Array.from({ length: 10 }, () => [])
  const finished: Array<string> = []
  const awaited = new Set<string>()
  let sleeping = false
  let paused = false
  let token = 0
  const hub = Effect.runSync(PubSub.sliding<ReadonlyArray<Transition>>(1024))

  let letters: Array<Letter> = []
  const post = (letter: Letter) => letters.push(letter)
  type Note = (kind: TransitionKind, id: string, tenant: string | undefined) => void

  // One step at a time: what it tells goes out when it is done, since whoever is told may take the next one at once.
  const atNow = <A>(f: (nowMillis: number, note: Note) => A): Effect.Effect<A> =>
    Effect.map(Clock.currentTimeMillis, (nowMillis) => {
      const transitions: Array<Transition> = []
      const result = f(
        nowMillis,
        (kind, id, tenant) => transitions.push({ kind, id, tenant, at: nowMillis })
      )
      if (transitions.length > 0) PubSub.publishUnsafe(hub, transitions)
      const told = letters
      letters = []
      for (const letter of told) deliver(letter)
      return result
    })

  const wake = () => {
    if (!sleeping || paused) return
    sleeping = false
    post({ kind: "wake", queue: address, owner: undefined })
  }

  const push = (id: string, job: Stored, front: boolean) => {
    move(id, job, "ready")
    const list = ready[job.record.priority]!
    if (front || job.record.lifo) list.unshift(id)
    else list.push(id)
  }

  const takeOut = (id: string, job: Stored) => {
    if (job.place === "ready") {
      const list = ready[job.record.priority]!
      list.splice(list.indexOf(id), 1)
    }
    move(id, job, undefined)
    job.holder = undefined
  }

  /** Those who go back to the front, in their order. */
  let fronts: Array<readonly [string, Stored]> = []
  const pushFronts = () => {
    for (const [id, job] of fronts.toReversed()) push(id, job, true)
    fronts = []
  }

  const putBack = (id: string, job: Stored, nowMillis: number, delayMillis: number, front: boolean) => {
    job.holder = undefined
    if (delayMillis > 0) {
      move(id, job, "delayed")
      job.dueAt = nowMillis + Math.ceil(delayMillis)
    } else if (front) fronts.push([id, job])
    else push(id, job, false)
    wake()
  }

  const finish = (id: string, job: Stored, outcome: Outcome) => {
    if (job.holder !== undefined) endedBy.set(id, job.holder.token)
    takeOut(id, job)
    job.failure = undefined
    job.cancel = undefined
    outcomes.set(id, outcome)
    if (outcome.state === "failed") dead.add(id)
    else {
      jobs.delete(id)
      finished.push(id)
    }
    tell(id)
  }

  const tell = (id: string) => {
    if (awaited.delete(id)) post({ kind: "finished", queue: address, id })
  }

  const cancelled = (id: string, job: Stored, reason: string, nowMillis: number, note: Note) => {
    const { name, tenant } = job.record
    finish(id, job, { state: "cancelled", finishedAt: nowMillis, attempt: 0, name, tenant, body: reason })
    note("cancelled", id, tenant)
  }

  const outcomeOf = (letter: string, nowMillis: number, text: string): Outcome =>
    readOutcome(`${letter};${nowMillis};0;${text}`)!

  /** Applies a report; yields false when it comes too late. */
  const apply = (
    { id, report, tenant, token }: Acknowledgement,
    request: StepRequest,
    nowMillis: number,
    note: Note
  ) => {
    const job = jobs.get(id)
    if (job?.holder === undefined || job.holder.token !== token || job.holder.owner !== request.owner) {
      if (report.kind === "release") return false
      if (report.kind === "retry" && job?.failure !== undefined && job.failedBy === token) return true
      return endedBy.get(id) === token
    }
    switch (report.kind) {
      case "complete":
        finish(id, job, outcomeOf("c", nowMillis, report.outcome))
        note("completed", id, tenant)
        return true
      case "dead":
        finish(id, job, outcomeOf("f", nowMillis, report.outcome))
        note("failed", id, tenant)
        return true
      case "cancelled":
        finish(id, job, outcomeOf("x", nowMillis, report.outcome))
        note("cancelled", id, tenant)
        return true
      case "retry":
        if (job.cancel !== undefined) cancelled(id, job, job.cancel, nowMillis, note)
        else {
          job.record = { ...job.record, failures: job.record.failures + 1 }
          job.failure = readFailure(report.failure)
          job.failedBy = token
          putBack(id, job, nowMillis, report.delayMillis, false)
          note("retrying", id, tenant)
        }
        return true
      case "release":
        if (job.cancel !== undefined) cancelled(id, job, job.cancel, nowMillis, note)
        else {
          putBack(id, job, nowMillis, report.delayMillis, true)
          note("released", id, tenant)
        }
        return true
    }
  }

  const promoteDue = (nowMillis: number) => {
    const due = inOrder([...delayed].filter(([, job]) => job.dueAt <= nowMillis), dueAt)
    for (const id of due) push(id, jobs.get(id)!, false)
    return due.length
  }

  const takeBackLost = (nowMillis: number, note: Note) => {
    for (const id of activeIn([...active].filter(([, job]) => job.leaseUntil <= nowMillis))) {
      const job = jobs.get(id)!
      job.holder = undefined
      const crashes = job.record.crashes + 1
      const { name, tenant } = job.record
      if (job.cancel !== undefined) cancelled(id, job, job.cancel, nowMillis, note)
      else if (crashes >= settings.maxCrashes) {
        job.record = { ...job.record, crashes }
        const failure: StoredFailure = {
          reason: "crashed",
          message: `its worker died, or lost its lease, ${crashes} times`
        }
        const text = writeOutcome(job.record.failures + 1, tenant, name, JSON.stringify(failure))
        finish(id, job, outcomeOf("f", nowMillis, text))
        note("failed", id, tenant)
      } else {
        job.record = { ...job.record, crashes }
        putBack(id, job, nowMillis, 0, true)
        note("stalled", id, tenant)
      }
    }
  }

  const sweep = (nowMillis: number) => {
    while (finished.length > 0) {
      const outcome = outcomes.get(finished[0]!)
      const old = outcome === undefined || outcome.finishedAt <= nowMillis - settings.outcomeMillis ||
        finished.length > settings.outcomeCount
      if (!old) break
      forget(finished.shift()!)
    }
    for (const id of dead) {
      if (outcomes.get(id)!.finishedAt > nowMillis - settings.deadMillis) break
      forget(id)
      jobs.delete(id)
    }
  }

  const claim = (request: StepRequest, nowMillis: number, note: Note): ReadonlyArray<Claim> => {
    const claims: Array<Claim> = []
    const most = request.want + request.ahead
    let { takesLastChance } = request
    if (paused || most === 0) return claims
    for (const list of ready) {
      while (list.length > 0 && claims.length < most) {
        const id = list[0]!
        const job = jobs.get(id)!
        // It may be what kills its holders: it does not wait where it could be counted as dead with another one.
        if (claims.length >= request.want && job.record.crashes > 0) return claims
        list.shift()
        if (job.record.crashes > 0 && job.record.crashes + 1 >= settings.maxCrashes) {
          if (!takesLastChance) {
            move(id, job, "delayed")
            job.dueAt = nowMillis + settings.lastChanceMillis
            continue
          }
          takesLastChance = false
        }
        if (claims.length === 0) token++
        move(id, job, "active")
        job.leaseUntil = nowMillis + request.leaseMillis
        job.holder = { token, owner: request.owner }
        claims.push({ id, token, record: job.record })
        note("active", id, job.record.tenant)
      }
    }
    return claims
  }

  /** Extends the claims that are kept; yields those that are not, and which of their jobs are to be cancelled. */
  const extend = (request: StepRequest, nowMillis: number) => {
    const cancels: Array<{ readonly id: string; readonly reason: string }> = []
    const kept = new Set<number>()
    if (request.extend.length > 0) {
      for (const [id, job] of active) {
        const { holder } = job
        if (holder?.owner !== request.owner || !request.extend.includes(holder.token)) continue
        kept.add(holder.token)
        job.leaseUntil = nowMillis + request.leaseMillis
        if (job.cancel !== undefined) cancels.push({ id, reason: job.cancel })
      }
    }
    return { cancels, lost: request.extend.filter((token) => !kept.has(token)) }
  }

  const step = (request: StepRequest, nowMillis: number, note: Note): StepReply => {
    const refused = request.reports.flatMap((report, i) => apply(report, request, nowMillis, note) ? [] : [i])
    pushFronts()
    const { cancels, lost } = extend(request, nowMillis)
    const promoted = promoteDue(nowMillis)
    takeBackLost(nowMillis, note)
    pushFronts()
    sweep(nowMillis)
    const claims = claim(request, nowMillis, note)
    if (promoted > claims.length) wake()
    const willCall = request.sleepMillis > 0 && claims.length < request.want
    let next = Infinity
    if (willCall) {
      sleeping = true
      for (const job of delayed.values()) next = Math.min(next, job.dueAt)
      for (const job of active.values()) next = Math.min(next, job.leaseUntil)
    }
    const nextMillis = next < Infinity ? Math.max(0, next - nowMillis) : undefined
    return { claims, refused, lost, cancels, paused, willCall, nextMillis }
  }

  const snapshot = (id: string): JobSnapshot | undefined => {
    const job = jobs.get(id)
    const outcome = outcomes.get(id)
    if (job === undefined && outcome === undefined) return undefined
    const state: JobState = outcome?.state ??
      (job?.place === "active" ? "active" : job?.place === "delayed" ? "delayed" : "waiting")
    return {
      id,
      state,
      record: job?.record,
      outcome,
      failure: job?.failure,
      dueAt: job?.place === "delayed" ? job.dueAt : undefined
    }
  }

  const enqueue = (added: ReadonlyArray<NewJob>, nowMillis: number, note: Note): ReadonlyArray<boolean> =>
    added.map(({ due, id, record }) => {
      if (jobs.has(id) || outcomes.has(id)) return false
      const dueAt = due === undefined ? 0 : "inMillis" in due ? nowMillis + Math.ceil(due.inMillis) : due.atMillis
      const job: Stored = {
        record: { ...record, failures: 0, crashes: 0 },
        place: undefined,
        dueAt,
        leaseUntil: 0,
        holder: undefined,
        failure: undefined,
        failedBy: undefined,
        cancel: undefined
      }
      jobs.set(id, job)
      if (dueAt <= nowMillis) push(id, job, false)
      else move(id, job, "delayed")
      note("queued", id, record.tenant)
      wake()
      return true
    })

  const change = (id: string, wish: Change, nowMillis: number, note: Note): ChangeReply => {
    const job = jobs.get(id)
    const outcome = outcomes.get(id)
    switch (wish.kind) {
      case "cancel":
        if (job === undefined || outcome !== undefined) return "unchanged"
        if (job.place === "active") {
          job.cancel = wish.reason
          post({ kind: "cancel", queue: address, id, reason: wish.reason })
          return "requested"
        }
        cancelled(id, job, wish.reason, nowMillis, note)
        return "done"
      case "remove":
        if (job?.place === "active" || (job === undefined && outcome === undefined)) return "unchanged"
        if (job !== undefined) takeOut(id, job)
        jobs.delete(id)
        forget(id)
        if (outcome !== undefined && finished.includes(id)) finished.splice(finished.indexOf(id), 1)
        tell(id)
        note("removed", id, (job?.record ?? outcome)?.tenant)
        return "done"
      case "retry":
        if (job === undefined || outcome === undefined) return "unchanged"
        forget(id)
        job.record = { ...job.record, failures: 0, crashes: 0 }
        push(id, job, false)
        note("queued", id, job.record.tenant)
        wake()
        return "done"
      case "promote":
        if (job?.place !== "delayed") return "unchanged"
        push(id, job, false)
        note("queued", id, job.record.tenant)
        wake()
        return "done"
    }
  }

  const dueAt = (job: Stored) => job.dueAt
  const inOrder = (found: ReadonlyArray<readonly [string, Stored]>, by: (job: Stored) => number): Array<string> =>
    found.toSorted(([idA, a], [idB, b]) => by(a) - by(b) || compareIds(idA, idB)).map(([id]) => id)
  /** By lease, and jobs of one claim as they were claimed. */
  const activeIn = (found: ReadonlyArray<readonly [string, Stored]>): Array<string> =>
    found.toSorted(([, a], [, b]) => a.leaseUntil - b.leaseUntil).map(([id]) => id)

  const idsIn = (state: ListedState): ReadonlyArray<string> => {
    switch (state) {
      case "waiting":
        return ready.flat()
      case "delayed":
        return inOrder([...delayed], dueAt)
      case "active":
        return activeIn([...active])
      case "failed":
        return Array.from(dead, (id) => ({ id, at: outcomes.get(id)!.finishedAt }))
          .toSorted((a, b) => b.at - a.at || compareIds(b.id, a.id))
          .map(({ id }) => id)
      case "finished":
        return finished.toReversed()
    }
  }

  const drainSome = (state: "waiting" | "delayed", _nowMillis: number, note: Note): number => {
    const ids = idsIn(state)
    for (const id of ids) {
      const job = jobs.get(id)!
      takeOut(id, job)
      jobs.delete(id)
      tell(id)
      note("removed", id, job.record.tenant)
    }
    return ids.length
  }

  const counts = (): QueueCounts => {
    const waiting = ready.flat()
    const oldest = waiting.reduce((least, id) => Math.min(least, jobs.get(id)!.record.enqueuedAt), Infinity)
    return {
      waiting: waiting.length,
      delayed: delayed.size,
      active: active.size,
      failed: dead.size,
      finished: outcomes.size - dead.size,
      paused,
      oldestEnqueuedAt: waiting.length === 0 ? undefined : oldest
    }
  }

  return {
    address,
    maxCrashes: settings.maxCrashes,
    enqueue: (added) => atNow((nowMillis, note) => enqueue(added, nowMillis, note)),
    step: (request) => atNow((nowMillis, note) => step(request, nowMillis, note)),
    leave: () => Effect.void,
    look: (id) => Effect.sync(() => snapshot(id)),
    expect: (id) =>
      Effect.sync(() => {
        const known = snapshot(id)
        if (known !== undefined && known.outcome === undefined) awaited.add(id)
        return known
      }),
    change: (id, wish) => atNow((nowMillis, note) => change(id, wish, nowMillis, note)),
    setPaused: (value) =>
      atNow(() => {
        paused = value
        if (paused) post({ kind: "pause", queue: address })
        else wake()
      }),
    counts: Effect.sync(counts),
    list: (state, cursor, limit) =>
      Effect.sync(() => {
        const from = cursor === "" ? 0 : Number(cursor)
        const ids = idsIn(state)
        return {
          jobs: ids.slice(from, from + limit).flatMap((id) => snapshot(id) ?? []),
          next: from + limit < ids.length ? String(from + limit) : undefined
        }
      }),
    drainSome: (state) => atNow((nowMillis, note) => drainSome(state, nowMillis, note)),
    transitions: Effect.map(PubSub.subscribe(hub), Stream.fromSubscription)
  }
}
