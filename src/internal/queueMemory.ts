/** The queue engine in this process: what the scripts do, on plain data, under Effect's Clock. */
import { Effect, PubSub, Stream } from "effect"
import type {
  Change,
  ChangeReply,
  JobSnapshot,
  JobState,
  Letter,
  ListedState,
  NewJob,
  QueueCounts,
  QueueEngine,
  QueueSettings,
  QueueStore
} from "./queueEngine.ts"
import { byDueTime, byLease, makeMemoryState, newestFirst, type Note, type Stored } from "./queueMemoryState.ts"
import { makeMemoryStep } from "./queueMemoryStep.ts"

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
      addressOf: () => "memory",
      listen: (queue, listener) =>
        Effect.asVoid(Effect.acquireRelease(
          Effect.sync(() => listeners.set(listener, queue)),
          () => Effect.sync(() => listeners.delete(listener))
        ))
    },
    open: ({ partition = 0, queue, shared }) => {
      const address = `${shared ? "shared" : "own"}:${partition}:${queue}`
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
  const state = makeMemoryState(address, deliver)
  const {
    jobs,
    outcomes,
    dead,
    delayed,
    active,
    ready,
    finished,
    awaited,
    flags,
    hub,
    forget,
    move,
    post,
    atNow,
    wake,
    push,
    takeOut,
    tell,
    cancelled
  } = state
  const step = makeMemoryStep(state, settings)

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

  const idsIn = (state: ListedState): ReadonlyArray<string> => {
    switch (state) {
      case "waiting":
        return ready.flat()
      case "delayed":
        return byDueTime([...delayed])
      case "active":
        return byLease([...active])
      case "failed":
        return newestFirst(dead, (id) => outcomes.get(id)!.finishedAt)
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
      paused: flags.paused,
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
        flags.paused = value
        if (value) post({ kind: "pause", queue: address })
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
