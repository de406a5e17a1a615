/** Reads a history of jobs, and says where the queue has broken its word. */
import type { AskedJob, History, Run } from "./events.ts"
import { type Faults, faultsOf, type Reason } from "./faults.ts"
import { type Breach, collect, type Of, type Rule, type Story, type Violation } from "./stories.ts"

export interface Verdict {
  readonly violations: ReadonlyArray<Violation>
  /** How many jobs have ended. */
  readonly done: number
  /** How many jobs have not, though they should. */
  readonly lost: number
  /** Starts beyond the first of an attempt, by why they were due. */
  readonly duplicates: Readonly<Record<Reason, number>>
  /** Jobs that a stale holder began after a later one: wasted, and refused. */
  readonly lateStarts: number
  /** Claims that waited out their lease because their holder was gone before it began the job, or never heard of it. */
  readonly idleClaims: number
  /** Dead letters because their holders went away too often. */
  readonly crashed: number
  /** Enqueues of whose success the producer was left in doubt, and how many of those were stored. */
  readonly doubtful: { readonly asked: number; readonly stored: number }
}

/** Checks the history of a trial that is over: nobody works any more, and the outcomes have been read. */
export const check = (history: History, options: { readonly leaseMillis: number }): Verdict => {
  const violations: Array<Violation> = []
  const breach = (rule: Rule, about: string, detail: string) => void violations.push({ rule, about, detail })
  const faults = faultsOf(history, options.leaseMillis)
  const { requests, stories } = collect(history, breach)
  const duplicates: Record<Reason, number> = { killed: 0, "shut down": 0, paused: 0, "cut off": 0, stalled: 0 }
  let done = 0
  let lost = 0
  let lateStarts = 0
  let idleClaims = 0
  let crashed = 0
  for (const story of stories.values()) {
    const request = story.mark === undefined ? undefined : requests.get(story.mark)
    if (request === undefined) {
      breach("nothing runs that was not asked for", story.id, "no producer knows of it")
    } else if (request.denied === request.asked && !request.acknowledged) {
      breach("what was refused is not there", story.id, "its enqueue is said not to have happened")
    }
    const { outcome } = story
    if (outcome === undefined || outcome.state === "open" || outcome.state === "unknown") {
      lost++
      breach("nothing is lost", story.id, `${tale(story)}; ${outcome?.detail ?? "no outcome was read"}`)
    } else {
      done++
      if (outcome.state === "crashed") crashed++
      checkEnd(story, outcome, request?.job, faults, breach)
    }
    lateStarts += checkOrder(story, faults, options.leaseMillis, breach)
    const reasons = checkRepeats(story, faults, options.leaseMillis, breach)
    for (const reason of reasons) duplicates[reason]++
    idleClaims += Math.max(0, story.stalls - reasons.length)
  }
  checkCounts(history, stories, breach)
  for (const entry of history) {
    if (entry.kind === "died") {
      breach("processes end when told to", entry.process, `it ended by itself: ${entry.output}`)
    }
    if (entry.kind === "stuck") breach("processes end when told to", entry.process, `it did not: ${entry.output}`)
  }
  const inDoubt = [...requests.values()].filter((request) => !request.acknowledged && request.denied < request.asked)
  return {
    violations,
    done,
    lost,
    duplicates,
    lateStarts,
    idleClaims,
    crashed,
    doubtful: { asked: inDoubt.length, stored: inDoubt.filter((request) => request.id !== undefined).length }
  }
}

/** What has ended once, by whom it may, and as it should. */
const checkEnd = (
  story: Story,
  outcome: Of<"outcome">,
  asked: AskedJob | undefined,
  faults: Faults,
  breach: Breach
): void => {
  const { id, starts } = story
  const { run } = outcome
  if (story.ended.length > 1) breach("a job ends once", id, `it is said to have ${story.ended.join(" and ")}`)
  const others = [...story.heard].filter((token) => token !== run?.token)
  if (others.length > 0) {
    breach("a job ends once", id, `${spell(run)} is recorded, but token ${others.join()} was told that it is`)
  }
  if (run === undefined) {
    // Without a fault nobody goes away; and nothing else than that ends a job without a word of its handler.
    if (outcome.state !== "crashed" || !faults.any) breach("a job ends as its handler says", id, outcome.detail)
    return
  }
  const later = starts.filter((start) => start.token > run.token)
  if (later.length > 0) {
    breach("only the last holder is heard", id, `${spell(run)} is recorded, but it was started by ${spell(later[0])}`)
  }
  if (!starts.some((start) => start.token === run.token && start.by === run.by)) {
    breach("a job ends as its handler says", id, `${spell(run)} is recorded, and has not run it`)
  }
  if (asked !== undefined && (asked.ends !== outcome.state || asked.attempt !== run.attempt)) {
    const should = `it should be ${asked.ends} in attempt ${asked.attempt}`
    breach("a job ends as its handler says", id, `${outcome.state} by ${spell(run)}: ${should}`)
  }
}

/** Tokens grow from start to start, unless a holder that was away starts late. Yields how many did. */
const checkOrder = ({ id, starts }: Story, faults: Faults, leaseMillis: number, breach: Breach): number => {
  let late = 0
  let newest: Of<"started"> | undefined
  for (const start of starts) {
    if (newest === undefined || start.token > newest.token) newest = start
    else if (starts.some((other) => other !== start && other.token === start.token)) {
      breach("tokens grow", id, `${spell(start)} started twice in one claim`)
    } else if (faults.explain(start.by, newest.at - leaseMillis, start.at) === undefined) {
      breach("tokens grow", id, `${spell(start)} started after ${spell(newest)}, and nothing had happened to it`)
    } else late++
  }
  return late
}

/** Why each start after the first was due; retries of failed attempts do not count. */
const checkRepeats = (story: Story, faults: Faults, leaseMillis: number, breach: Breach): Array<Reason> => {
  const reasons: Array<Reason> = []
  const starts = story.starts.toSorted((a, b) => a.token - b.token)
  for (let i = 1; i < starts.length; i++) {
    const before = starts[i - 1]!
    const start = starts[i]!
    const hasFailed = story.ends.get(before.token) === "failure"
    if (hasFailed && start.attempt === before.attempt + 1) continue
    if (start.attempt !== before.attempt) {
      breach("only a failure uses up an attempt", story.id, `${spell(start)} follows ${spell(before)}`)
    }
    const from = Math.min(before.at, start.at) - leaseMillis
    const reason = faults.explain(before.by, from, Math.max(before.at, start.at))
    if (reason !== undefined) reasons.push(reason)
    else breach("a job starts again for a reason", story.id, `${spell(start)} follows ${spell(before)}`)
  }
  return reasons
}

/** Nothing is left, and the queue has as many outcomes as there are. */
const checkCounts = (history: History, stories: ReadonlyMap<string, Story>, breach: Breach): void => {
  for (const entry of history) {
    if (entry.kind !== "counts") continue
    const states = { finished: 0, failed: 0 }
    for (const { outcome } of stories.values()) {
      if (outcome?.queue !== entry.queue) continue
      if (outcome.state === "completed") states.finished++
      else if (outcome.state === "failed" || outcome.state === "crashed") states.failed++
    }
    const expected = { waiting: 0, delayed: 0, active: 0, ...states }
    for (const state of ["waiting", "delayed", "active", "finished", "failed"] as const) {
      if (entry[state] === expected[state]) continue
      const rule = state === "finished" || state === "failed" ? "a job ends once" : "nothing is lost"
      breach(rule, `queue ${entry.queue}`, `it counts ${entry[state]} ${state}, and should ${expected[state]}`)
    }
  }
}

/**
 * Which jobs of a queue were not first started in the order in which one producer had enqueued them, delayed ones left
 * out. It is promised to one worker that runs one job at a time, as long as nothing is done to it.
 */
export const checkFifo = (history: History, queue: string): ReadonlyArray<string> => {
  const asked = history.flatMap((entry) => entry.kind === "asked" && entry.queue === queue ? entry.jobs : [])
  const immediate = new Set(asked.filter((job) => !job.delayed).map((job) => job.mark))
  const inOrder = (marks: ReadonlyArray<string>) => [...new Set(marks.filter((mark) => immediate.has(mark)))]
  const enqueued = inOrder(history.flatMap((entry) => entry.kind === "enqueued" ? entry.marks : []))
  const started = inOrder(history.flatMap((entry) => entry.kind === "started" ? [entry.mark] : []))
  return enqueued.flatMap((mark, i) =>
    started[i] === mark ? [] : [`number ${i} should be ${mark}, and is ${started[i] ?? "missing"}`]
  )
}

const spell = (run: Run | undefined): string =>
  run === undefined ? "nobody" : `${run.by} (token ${run.token}, attempt ${run.attempt})`

const tale = ({ acknowledged, starts }: Story): string =>
  `${acknowledged ? "acknowledged" : "not acknowledged"}, started by ${starts.map(spell).join(", ") || "nobody"}`
