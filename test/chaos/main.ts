/**
 * `npm run chaos -- [--seconds 120] [--seed N]`: processes that produce and work are killed and paused, the server too,
 * and connections cut, at random from a seed. Fails when the history shows that the queue broke its word, or when too
 * little happened to say so.
 */
import { Effect, type Scope } from "effect"
import { cp, mkdtemp } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { check, type Verdict } from "../support/history/checker.ts"
import type { History } from "../support/history/events.ts"
import type { Member } from "../support/history/members.ts"
import { startTrial, type Trial } from "../support/history/trial.ts"
import { type Fault, places, plan } from "./plan.ts"

const leaseMillis = 1500
/** How long the queues may take to run empty once all is well again. */
const settleMillis = 45_000

const { values } = parseArgs({ options: { seconds: { type: "string" }, seed: { type: "string" } } })
const seconds = Number(values.seconds ?? 120)
const seed = Number(values.seed ?? Math.floor(Math.random() * 1_000_000))
if (!(seconds > 0 && Number.isSafeInteger(seed))) throw new Error("--seconds and --seed are numbers")

/** Starts who takes part, and breaks what is planned, for as long as the run lasts. */
const play = (trial: Trial): Effect.Effect<void, never, Scope.Scope> =>
  Effect.gen(function*() {
    let starts = 0
    const startIn = (place: number) =>
      trial.start(places[place]!.role, { proxy: places[place]!.proxy, seed: seed + starts++, perSecond: 400 })
    const members: Array<Member> = yield* Effect.forEach(places, (_, place) => startIn(place))
    yield* Effect.forEach(members, (member) => member.ready, { concurrency: "unbounded" })

    const strike = (fault: Fault): Effect.Effect<void, never, Scope.Scope> =>
      Effect.gen(function*() {
        switch (fault.kind) {
          case "kill":
          case "replace": {
            const { close, kill } = members[fault.place]!
            if (fault.kind === "kill") yield* kill
            // One that is stopped or cannot reach the server takes its time.
            else yield* Effect.forkScoped(close)
            members[fault.place] = yield* startIn(fault.place)
            return
          }
          case "pause": {
            const { pause, resume } = members[fault.place]!
            return yield* pause.pipe(Effect.andThen(Effect.sleep(fault.millis)), Effect.andThen(resume))
          }
          case "restart":
            return yield* trial.restartServer(fault.downMillis)
          case "cut":
            return yield* trial.cut(fault.proxy, fault.how)
          case "block":
            return yield* trial.block(fault.proxy, fault.how, fault.direction, fault.millis)
        }
      })
    const begin = performance.now()
    const rest = (untilMillis: number) => Effect.suspend(() => Effect.sleep(begin + untilMillis - performance.now()))
    yield* Effect.forEach(plan(seed, seconds, leaseMillis), ({ atMillis, fault }) =>
      Effect.andThen(
        rest(atMillis),
        Effect.suspend(() => {
          console.log(`${(atMillis / 1000).toFixed(1).padStart(6)} s  ${JSON.stringify(fault)}`)
          return strike(fault)
        })
      ), { concurrency: "unbounded", discard: true })
    yield* rest(seconds * 1000)
  })

/** How much has happened. */
const summarize = (history: History, verdict: Verdict) => {
  const count = (isMeant: (entry: History[number]) => boolean) => history.filter(isMeant).length
  return {
    jobs: verdict.done,
    kills: count((entry) => entry.kind === "killed"),
    pauses: count((entry) => entry.kind === "paused"),
    restarts: count((entry) => entry.kind === "outage" && entry.proxy === undefined),
    cuts: count((entry) => entry.kind === "cut" || (entry.kind === "outage" && entry.proxy !== undefined))
  }
}

/** What a run of this length must have seen, so that it says something. */
const least: ReturnType<typeof summarize> = {
  jobs: 50 * seconds,
  kills: Math.floor(seconds / 10),
  pauses: Math.floor(seconds / 15),
  restarts: Math.floor(seconds / 15),
  cuts: Math.floor(seconds / 4)
}

const spell = (count: number, what: string) =>
  `${count.toLocaleString("en-US")} ${count === 1 ? what.replace(/s$/, "") : what}`

const sum = (counts: Readonly<Record<string, number>>) => Object.values(counts).reduce((a, b) => a + b, 0)

/** What was broken, the first cases of each rule with all that is known of the job. */
const report = (history: History, { violations }: Verdict) => {
  for (const [rule, cases = []] of Object.entries(Object.groupBy(violations, ({ rule }) => rule))) {
    console.log(`\nBROKEN: ${rule}: ${spell(cases.length, "times")}`)
    for (const { about, detail } of cases.slice(0, 10)) console.log(`  ${about}: ${detail}`)
    const { about } = cases[0]!
    for (const entry of history) {
      if ("id" in entry && entry.id === about) console.log(`    ${JSON.stringify(entry)}`)
    }
  }
}

const run = Effect.gen(function*() {
  console.log(`chaos: seed ${seed}, ${seconds} seconds`)
  const trial = yield* startTrial({ leaseMillis, commandTimeoutMillis: 1000, proxies: 2 })
  yield* play(trial)
  const history = yield* trial.settle(settleMillis)
  const verdict = check(history, { leaseMillis })
  const happened = summarize(history, verdict)
  const { crashed, doubtful, duplicates, idleClaims, lateStarts, lost, violations } = verdict

  if (violations.length > 0) {
    report(history, verdict)
    const kept = yield* Effect.promise(() => mkdtemp(join(tmpdir(), "chaos-")))
    yield* Effect.promise(() => cp(trial.directory, kept, { recursive: true }))
    console.log(`\nThe whole history is kept in ${kept}`)
  }
  const tooFew = Object.entries(least).flatMap(([what, wanted]) => {
    const count = happened[what as keyof typeof happened]
    return count < wanted ? [`${spell(count, what)}, and ${wanted} are the least`] : []
  })
  for (const line of tooFew) console.log(`TOO LITTLE HAPPENED: ${line}`)

  const fates = Object.entries(duplicates).map(([fate, count]) => `${count} ${fate}`)
  console.log(
    `\nduplicates by the fate of the earlier holder: ${
      fates.join(", ")
    }; begun late, by a stale holder: ${lateStarts}; ` +
      `claims that ran out before the job began: ${idleClaims}; dead letters because of crashes: ${crashed}; ` +
      `enqueues in doubt: ${doubtful.asked}, of which stored: ${doubtful.stored}`
  )
  console.log(
    `chaos: seed ${seed}: ${spell(happened.jobs, "jobs")} done, ${spell(happened.kills, "kills")}, ` +
      `${spell(happened.pauses, "pauses")}, ${spell(happened.restarts, "server restarts")}, ` +
      `${spell(happened.cuts, "cuts")}, ${spell(sum(duplicates), "duplicates")} (each with a dead or fenced holder), ` +
      `${violations.length === 0 ? "" : `${spell(violations.length, "broken promises")}, `}lost: ${lost}`
  )
  return violations.length === 0 && tooFew.length === 0
})

process.exitCode = await Effect.runPromise(Effect.scoped(run)) ? 0 : 1
