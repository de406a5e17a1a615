/** What a scenario has shown: as a table, and as promises that were broken. */
import type { Findings } from "./load.ts"
import type { Scenario } from "./scenarios.ts"
import { countFailed, type Tally } from "./tally.ts"

export interface Outcome {
  readonly scenario: Scenario
  readonly strikes: number
  readonly findings: Findings
}

/** One line of the table: a kind of call. Undefined where it says nothing. */
export interface Row {
  readonly calls: string
  readonly tally: Tally
  readonly lost: number | undefined
  readonly twice: number | undefined
}

export const rowsOf = ({ durable, durableLock, jobs, listening, plain, plainLock }: Findings): ReadonlyArray<Row> => [
  { calls: "INCR", ...plain },
  { calls: "INCR, WAIT", ...durable },
  { calls: "enqueue", tally: jobs.plain.tally, lost: jobs.plain.lost, twice: undefined },
  { calls: "enqueue, WAIT", tally: jobs.durable.tally, lost: jobs.durable.lost, twice: undefined },
  { calls: "withLock", tally: plainLock.tally, lost: undefined, twice: undefined },
  { calls: "withLock, WAIT", tally: durableLock.tally, lost: undefined, twice: undefined },
  { calls: "publish", tally: listening.tally, lost: undefined, twice: undefined }
]

/** Whatever must not have happened, in words. */
export const brokenPromises = ({ findings, scenario }: Outcome): ReadonlyArray<string> => {
  const { durable, durableLock, jobs, listening, plain, plainLock } = findings
  const never: ReadonlyArray<readonly [count: number, what: string]> = [
    [durable.lost, "INCRs that replicas had were lost"],
    [jobs.durable.lost, "jobs that replicas had never ran"],
    [plain.twice + durable.twice, "INCRs ran twice"],
    [jobs.unfenced, "jobs began with a token no greater than an earlier holder's"],
    [durableLock.events.together, "times two held a lock that replicas knew of"],
    [
      plainLock.events.stale + durableLock.events.stale,
      "locks were got with a token that was no greater than an earlier one"
    ],
    [durableLock.events.overwritten, "guarded writes were accepted after those of a later holder"],
    [listening.events.unannounced, "messages were missed without a gap"]
  ]
  const neverWithoutLoss: typeof never = [
    [plain.lost, "INCRs were lost"],
    [jobs.plain.lost, "jobs never ran"],
    [plainLock.events.together, "times two held a lock"],
    [plainLock.events.overwritten, "guarded writes were accepted after those of a later holder"]
  ]
  return [
    ...[...never, ...(scenario.lossless ? neverWithoutLoss : [])].flatMap(([count, what]) =>
      count === 0 ? [] : [`${count} ${what}`]
    ),
    ...rowsOf(findings).flatMap(({ calls, tally }) => tally.acknowledged === 0 ? [`no ${calls} was acknowledged`] : []),
    ...(jobs.done === 0 ? ["no job was done"] : []),
    ...(scenario.kills && countFailed(plain.tally, "Unknown") === 0
      ? ["nothing was under way: no INCR is Unknown"]
      : []),
    ...(scenario.lossless && plain.tally.again === 0 ? ["nothing was under way: no INCR was sent elsewhere"] : [])
  ]
}

const spell = (count: number | undefined) => count === undefined ? "" : count.toLocaleString("en-US")
const seconds = (millis: number) => `${(millis / 1000).toFixed(1)} s`

const errorsOf = (tally: Tally, outcome: string) =>
  Array.from(tally.failed).filter(([what]) => what.startsWith(outcome))
    .map(([what, count]) => `${spell(count)} ${what.slice(outcome.length + 1)}`)

const cellsOf = ({ calls, lost, tally, twice }: Row): ReadonlyArray<string> => [
  calls,
  spell(tally.calls),
  spell(tally.acknowledged),
  calls === "INCR" ? spell(tally.again) : "",
  spell(countFailed(tally, "Unknown")),
  [...errorsOf(tally, "NotSent"), ...errorsOf(tally, "Rejected")].join(", ") || "0",
  spell(lost),
  spell(twice),
  calls.startsWith("withLock") ? "" : seconds(tally.pauseMillis)
]

const headings = [
  "calls",
  "made",
  "acknowledged",
  "sent again",
  "Unknown",
  "NotSent, Rejected",
  "lost",
  "run twice",
  "longest pause"
]

/** A Markdown table, with what a table has no room for below it. */
export const describe = (outcome: Outcome): string => {
  const { findings, scenario, strikes } = outcome
  const { durableLock, jobs, listening: { events: { gaps, missed, received } }, plainLock } = findings
  const rows = [headings, ...rowsOf(findings).map(cellsOf)]
  const widths = headings.map((_, i) => Math.max(...rows.map((row) => row[i]!.length)))
  const line = (cells: ReadonlyArray<string>) => `| ${cells.map((cell, i) => cell.padEnd(widths[i]!)).join(" | ")} |`
  const locks = (name: string, { lost, overwritten, timeouts, together }: typeof plainLock.events) =>
    `${name}: two at once ${together}, late writes accepted ${overwritten}, LockLost ${lost}, LockTimeout ${timeouts}`
  return [
    `${scenario.name}: ${scenario.what}; ${strikes === 1 ? "once" : `${strikes} times`}`,
    "",
    line(rows[0]!),
    line(widths.map((width) => "-".repeat(width))),
    ...rows.slice(1).map(line),
    "",
    `jobs: done ${spell(jobs.done)}, run again after they had ended ${jobs.ranAgain}, ` +
    `begun beside a holder that was fenced off ${jobs.overlapping}`,
    locks("lock", plainLock.events),
    locks("lock, WAIT", durableLock.events),
    `subscriber: received ${spell(received)}, gaps ${gaps}, missed ${missed}`,
    ...brokenPromises(outcome).map((promise) => `BROKEN: ${promise}`),
    ""
  ].join("\n")
}

/** The same for programs. */
export const toJson = (outcome: Outcome) => {
  const { findings: { durableLock, jobs, listening, plainLock }, scenario, strikes } = outcome
  return {
    failover: scenario.name,
    strikes,
    calls: rowsOf(outcome.findings).map(({ calls, lost, tally, twice }) => ({
      calls,
      made: tally.calls,
      acknowledged: tally.acknowledged,
      again: calls === "INCR" ? tally.again : undefined,
      failed: Object.fromEntries(tally.failed),
      lost,
      twice,
      longestPauseMillis: Math.round(tally.pauseMillis)
    })),
    jobs: { done: jobs.done, ranAgain: jobs.ranAgain, overlapping: jobs.overlapping, unfenced: jobs.unfenced },
    locks: { plain: plainLock.events, durable: durableLock.events },
    subscriber: listening.events,
    broken: brokenPromises(outcome)
  }
}

/** The last line. */
export const summarize = (outcomes: ReadonlyArray<Outcome>): string => {
  const rows = outcomes.flatMap(({ findings }) => rowsOf(findings))
  const sum = (count: (row: Row) => number) => rows.reduce((total, row) => total + count(row), 0)
  const lost = (withWait: boolean) => sum((row) => row.calls.endsWith("WAIT") === withWait ? row.lost ?? 0 : 0)
  const pause = Math.max(
    ...rows.filter(({ calls }) => !calls.startsWith("withLock")).map((row) => row.tally.pauseMillis)
  )
  return `failover: ${outcomes.length} ${outcomes.length === 1 ? "scenario" : "scenarios"}, ` +
    `acknowledged ${sum((row) => row.tally.acknowledged)}, unknown ${
      sum((row) => countFailed(row.tally, "Unknown"))
    }, ` +
    `lost ${lost(true)} with WAIT, ${lost(false)} without, longest pause ${seconds(pause)}`
}
