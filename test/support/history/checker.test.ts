/** The checker, on histories written by hand. */
import { assert, describe, it } from "@effect/vitest"
import { check, checkFifo, type Verdict } from "./checker.ts"
import type { AskedJob, Entry, HistoryEvent, Run } from "./events.ts"

const leaseMillis = 600
const one = "worker-1"
const two = "worker-2"

type Line = readonly [by: string, event: HistoryEvent, laterMillis?: number]

/** A history in the order of writing, 10 ms an event unless it says how much later. */
const write = (...lines: ReadonlyArray<Line>) => {
  let at = 0
  return lines.map(([by, event, later = 10]): Entry => Object.assign({ at: at += later, by }, event))
}

const asked = (mark: string, job: Partial<AskedJob> = {}): Line => [
  "producer",
  {
    kind: "asked",
    queue: "many",
    jobs: [{ mark, id: undefined, delayed: false, ends: "completed", attempt: 1, ...job }]
  }
]
const enqueued = (mark: string, id = mark): Line => ["producer", { kind: "enqueued", marks: [mark], ids: [id] }]
const refused = (mark: string, outcome: "NotSent" | "Unknown" | "Rejected"): Line => [
  "producer",
  { kind: "refused", marks: [mark], outcome }
]
const started = (by: string, id: string, token: number, attempt = 1, later = 10): Line => [
  by,
  { kind: "started", queue: "many", id, mark: id, token, attempt, millis: 0 },
  later
]
const finished = (by: string, id: string, token: number, how: "success" | "failure" | "interrupted"): Line => [
  by,
  { kind: "finished", id, token, how }
]
const outcome = (id: string, state: "completed" | "failed" | "crashed" | "open", run?: Run): Line => [
  "trial",
  { kind: "outcome", queue: "many", id, mark: undefined, state, run, detail: "" }
]
const done = (id: string, by: string, token: number, attempt = 1) => outcome(id, "completed", { by, token, attempt })
const fault = (kind: "killed" | "paused" | "resumed" | "closing", process: string, later = 10): Line => [
  "trial",
  { kind, process },
  later
]
const joined = (process: string, proxy?: number): Line => ["trial", { kind: "joined", process, proxy }]
const counts = (finished: number, failed: number, active = 0): Line => [
  "trial",
  { kind: "counts", queue: "many", waiting: 0, delayed: 0, active, failed, finished }
]

const judge = (...lines: ReadonlyArray<Line>): Verdict => check(write(...lines), { leaseMillis })
const broken = (...lines: ReadonlyArray<Line>): ReadonlyArray<string> =>
  judge(...lines).violations.map(({ rule }) => rule)
const run = (by: string, id: string, token: number) => [started(by, id, token), finished(by, id, token, "success")]

const none: ReadonlyArray<string> = []

describe("The checker of histories", () => {
  it("finds nothing wrong where each job runs once and ends", () => {
    const verdict = judge(
      asked("a"),
      asked("b", { ends: "failed" }),
      enqueued("a"),
      enqueued("b"),
      ...run(one, "a", 1),
      started(two, "b", 2),
      finished(two, "b", 2, "failure"),
      counts(1, 1),
      done("a", one, 1),
      outcome("b", "failed", { by: two, token: 2, attempt: 1 })
    )
    const duplicates = { killed: 0, "shut down": 0, paused: 0, "cut off": 0, stalled: 0 }
    const doubtful = { asked: 0, stored: 0 }
    const expected = {
      violations: [],
      done: 2,
      lost: 0,
      duplicates,
      lateStarts: 0,
      idleClaims: 0,
      crashed: 0,
      doubtful
    }
    assert.deepStrictEqual(verdict, expected)
  })

  it("misses what was acknowledged and has not ended, or left nothing behind", () => {
    assert.deepStrictEqual(broken(asked("a"), enqueued("a"), outcome("a", "open")), ["nothing is lost"])
    assert.deepStrictEqual(broken(asked("a"), enqueued("a"), ...run(one, "a", 1)), ["nothing is lost"])
    assert.strictEqual(judge(asked("a"), enqueued("a"), outcome("a", "open")).lost, 1)
  })

  it("misses what is there although nobody was told", () => {
    const unsaid = [asked("a"), refused("a", "Unknown"), started(one, "a", 1)]
    assert.deepStrictEqual(broken(...unsaid, outcome("a", "open")), ["nothing is lost"])
    assert.deepStrictEqual(broken(counts(0, 0, 1)), ["nothing is lost"])
  })

  it("compares what the queue counts with what there is", () => {
    const lines = [asked("a"), enqueued("a"), ...run(one, "a", 1), done("a", one, 1)]
    assert.deepStrictEqual(broken(...lines, counts(2, 0)), ["a job ends once"])
    assert.deepStrictEqual(broken(...lines, counts(1, 1)), ["a job ends once"])
  })

  it("leaves open whether an enqueue in doubt has happened, but not how often", () => {
    assert.deepStrictEqual(judge(asked("a"), refused("a", "Unknown")).doubtful, { asked: 1, stored: 0 })
    const killed = [asked("a"), fault("killed", "producer"), ...run(one, "a", 1), done("a", one, 1)]
    assert.deepStrictEqual(broken(...killed), none)
    assert.deepStrictEqual(judge(...killed).doubtful, { asked: 1, stored: 1 })
    const again: Line = [two, {
      kind: "started",
      queue: "many",
      id: "again",
      mark: "a",
      token: 2,
      attempt: 1,
      millis: 0
    }]
    assert.deepStrictEqual(broken(...killed, again, done("again", two, 2)), ["nothing is stored twice"])
  })

  it("wants a producer's own id to be the job's", () => {
    const lines = [enqueued("a", "other"), done("other", one, 1)]
    const start: Line = [one, {
      kind: "started",
      queue: "many",
      id: "other",
      mark: "a",
      token: 1,
      attempt: 1,
      millis: 0
    }]
    assert.deepStrictEqual(broken(asked("a"), start, ...lines), none)
    assert.deepStrictEqual([...new Set(broken(asked("a", { id: "a" }), start, ...lines))], ["nothing is stored twice"])
  })

  it("does not accept that what was not sent, or not asked for, runs", () => {
    const lines = [...run(one, "a", 1), done("a", one, 1)]
    assert.deepStrictEqual(broken(asked("a"), refused("a", "NotSent"), ...lines), ["what was refused is not there"])
    assert.deepStrictEqual(broken(asked("a"), refused("a", "Rejected"), ...lines), ["what was refused is not there"])
    assert.deepStrictEqual(broken(asked("a"), refused("a", "NotSent"), asked("a"), enqueued("a"), ...lines), none)
    assert.deepStrictEqual(broken(...lines), ["nothing runs that was not asked for"])
  })

  it("sees that a holder was heard whose job had been given to another", () => {
    const before = [asked("a"), enqueued("a"), started(one, "a", 1), fault("paused", one)]
    const after = [started(two, "a", 2, 1, 700), fault("resumed", one), finished(one, "a", 1, "success")]
    assert.deepStrictEqual(broken(...before, ...after, done("a", two, 2)), none)
    assert.deepStrictEqual(broken(...before, ...after, done("a", one, 1)), ["only the last holder is heard"])
  })

  it("sees that two were heard, though only one is recorded", () => {
    const told: Line = ["trial", { kind: "told", id: "a", how: "completed" }]
    const heard = (token: number): Line => [one, { kind: "heard", id: "a", token }]
    const lines = [asked("a"), enqueued("a"), started(one, "a", 1), fault("killed", one), ...run(two, "a", 2)]
    assert.deepStrictEqual(broken(...lines, heard(2), told, done("a", two, 2)), none)
    assert.deepStrictEqual(broken(...lines, told, told, done("a", two, 2)), ["a job ends once"])
    assert.deepStrictEqual(broken(...lines, heard(1), done("a", two, 2)), ["a job ends once"])
  })

  const begun = [joined(one, 0), joined(two, 1), asked("a"), enqueued("a"), started(one, "a", 1)]
  const again = (laterMillis: number) => [started(two, "a", 2, 1, laterMillis), done("a", two, 2)]
  const outage = (number: number, proxy: number | undefined): Line => ["trial", { kind: "outage", number, proxy }]
  const cut = (proxy: number): Line => ["trial", { kind: "cut", proxy, how: "now" }]
  const silent = (since: number): Line => [one, { kind: "silent", since }, 300]

  it("wants a reason for each start after the first", () => {
    const reasonOf = (...lines: ReadonlyArray<Line>) => {
      const { duplicates, violations } = judge(...begun, ...lines)
      return [...violations, ...Object.entries(duplicates).flatMap(([reason, count]) => count === 1 ? [reason] : [])]
    }
    assert.deepStrictEqual(broken(...begun, ...again(700)), ["a job starts again for a reason"])
    assert.deepStrictEqual(reasonOf(fault("killed", one), ...again(700)), ["killed"])
    assert.deepStrictEqual(reasonOf(fault("closing", one), ...again(10)), ["shut down"])
    assert.deepStrictEqual(reasonOf(fault("paused", one), ...again(700)), ["paused"])
    assert.deepStrictEqual(reasonOf(outage(0, 0), ...again(700)), ["cut off"])
    assert.deepStrictEqual(reasonOf(outage(0, undefined), ...again(700)), ["cut off"])
    assert.deepStrictEqual(reasonOf(cut(0), silent(50), ...again(400)), ["cut off"])
    assert.deepStrictEqual(reasonOf(silent(50), ...again(400)), ["stalled"])
    // What was done had nothing to do with it.
    assert.deepStrictEqual(reasonOf(cut(1), silent(50), ...again(400)), ["stalled"])
    assert.deepStrictEqual(reasonOf(cut(0), silent(500), ...again(700)), ["stalled"])
    assert.deepStrictEqual(reasonOf(silent(50), [one, { kind: "reached" }], cut(0), ...again(400)), ["stalled"])
  })

  it("does not take for a reason what was too short, happened to another, or came later", () => {
    const restored: Line = ["trial", { kind: "restored", number: 0 }, 100]
    const unexplained = ["a job starts again for a reason"]
    assert.deepStrictEqual(
      broken(...begun, fault("paused", one), fault("resumed", one, 100), ...again(700)),
      unexplained
    )
    assert.deepStrictEqual(broken(...begun, outage(0, 0), restored, ...again(700)), unexplained)
    assert.deepStrictEqual(broken(...begun, silent(300), [one, { kind: "reached" }], ...again(700)), unexplained)
    assert.deepStrictEqual(broken(...begun, cut(0), ...again(700)), unexplained)
    assert.deepStrictEqual(broken(...begun, fault("killed", two), ...again(700)), unexplained)
    assert.deepStrictEqual(broken(...begun, outage(0, 1), ...again(700)), unexplained)
    assert.deepStrictEqual(broken(...begun, ...again(700), fault("killed", one)), unexplained)
  })

  it("knows a retry from a repetition", () => {
    const lines = [asked("a", { attempt: 2 }), enqueued("a"), started(one, "a", 1)]
    const retry = [started(one, "a", 2, 2), done("a", one, 2, 2)]
    assert.deepStrictEqual(broken(...lines, finished(one, "a", 1, "failure"), ...retry), none)
    assert.deepStrictEqual(broken(...lines, finished(one, "a", 1, "interrupted"), ...retry), [
      "only a failure uses up an attempt",
      "a job starts again for a reason"
    ])
    const unheard = [finished(one, "a", 1, "failure"), started(two, "a", 2, 1, 700), finished(two, "a", 2, "failure")]
    assert.deepStrictEqual(broken(...lines, ...unheard, started(two, "a", 3, 2), done("a", two, 3, 2)), [
      "a job starts again for a reason"
    ])
  })

  it("wants tokens to grow from start to start, but for holders that were away", () => {
    const lines = [asked("a"), enqueued("a")]
    const unexplained = ["tokens grow", "a job starts again for a reason"]
    assert.deepStrictEqual(broken(...lines, ...run(one, "a", 2), ...run(two, "a", 1), done("a", one, 2)), unexplained)
    assert.deepStrictEqual(broken(...lines, ...run(one, "a", 1), ...run(one, "a", 1), done("a", one, 1)), unexplained)
    const late = [
      fault("paused", two),
      started(one, "a", 2, 1, 700),
      fault("resumed", two),
      started(two, "a", 1),
      finished(one, "a", 2, "success")
    ]
    const verdict = judge(...lines, ...late, done("a", one, 2))
    assert.deepStrictEqual(verdict.violations, [])
    assert.strictEqual(verdict.lateStarts, 1)
    assert.strictEqual(verdict.duplicates.paused, 1)
  })

  it("wants each job to end as its handler says", () => {
    const lines = [asked("a", { ends: "failed" }), enqueued("a"), started(one, "a", 1)]
    const failed = (by: string, attempt: number) => outcome("a", "failed", { by, token: 1, attempt })
    const otherwise = ["a job ends as its handler says"]
    assert.deepStrictEqual(broken(...lines, failed(one, 1)), none)
    assert.deepStrictEqual(broken(...lines, done("a", one, 1)), otherwise)
    assert.deepStrictEqual(broken(...lines, failed(one, 2)), otherwise)
    assert.deepStrictEqual(broken(...lines, failed(two, 1)), otherwise)
  })

  it("counts what died with its holders, and accepts it only where holders have died", () => {
    const lines = [asked("a"), enqueued("a"), started(one, "a", 1)]
    const crashed = [outcome("a", "crashed"), counts(0, 1)]
    assert.deepStrictEqual(broken(...lines, ...crashed), ["a job ends as its handler says"])
    assert.deepStrictEqual(broken(...lines, fault("killed", one), ...crashed), none)
    assert.strictEqual(judge(...lines, fault("killed", one), ...crashed).crashed, 1)
  })

  it("counts claims that ran out before anyone began the job", () => {
    const stalled: Line = ["trial", { kind: "told", id: "a", how: "stalled" }]
    const lines = [asked("a"), enqueued("a"), stalled, started(one, "a", 2), fault("killed", one), stalled]
    assert.strictEqual(judge(...lines, ...run(two, "a", 3), done("a", two, 3)).idleClaims, 1)
  })

  it("sees processes that end by themselves, or not at all", () => {
    assert.deepStrictEqual(broken(["trial", { kind: "died", process: one, output: "" }]), [
      "processes end when told to"
    ])
    assert.deepStrictEqual(broken(["trial", { kind: "stuck", process: one, output: "" }]), [
      "processes end when told to"
    ])
  })
})

describe("The checker of order", () => {
  const enqueueing = ["a", "b", "c"].flatMap((mark) => [asked(mark), enqueued(mark)])

  it("compares first starts with enqueueing, and leaves out what was delayed or asked for again", () => {
    const history = write(
      ...enqueueing,
      asked("late", { delayed: true }),
      enqueued("late"),
      asked("a"),
      enqueued("a"),
      started(one, "a", 1),
      started(one, "b", 2),
      started(one, "a", 3, 2),
      started(one, "c", 4),
      started(one, "late", 5)
    )
    assert.deepStrictEqual(checkFifo(history, "many"), [])
  })

  it("tells what came out of order, or not at all", () => {
    const history = write(...enqueueing, started(one, "a", 1), started(one, "c", 2))
    assert.deepStrictEqual(checkFifo(history, "many"), [
      "number 1 should be b, and is c",
      "number 2 should be c, and is missing"
    ])
  })
})
