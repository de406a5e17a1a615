/**
 * `npm run failover -- [--seconds 20] [--short] [--json] [scenario ...]`: what users get while a master dies or hands over,
 * a slot moves, or a replica lags. Fails when a promise is broken, or when nothing was under way.
 */
import { Effect, References } from "effect"
import { parseArgs } from "node:util"
import { startLoad } from "./load.ts"
import { brokenPromises, describe, type Outcome, summarize, toJson } from "./report.ts"
import { type Scenario, scenarios } from "./scenarios.ts"

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { seconds: { type: "string" }, short: { type: "boolean" }, json: { type: "boolean" } }
})
/** Of each scenario under load; it strikes at least once. */
const seconds = values.short === true ? 0 : Number(values.seconds ?? 20)
if (!(seconds >= 0)) throw new Error("--seconds is a number")
const chosen = positionals.length === 0 ? scenarios : positionals.map((name) => {
  const found = scenarios.find((scenario) => scenario.name === name)
  if (found === undefined) {
    throw new Error(`There is no scenario "${name}"; there are ${scenarios.map(({ name }) => name).join(", ")}`)
  }
  return found
})

/** Undisturbed before the first strike, and after each. */
const calmMillis = values.short === true ? 700 : 1500

const play = (scenario: Scenario): Effect.Effect<Outcome> =>
  Effect.scoped(Effect.gen(function*() {
    const { replicas, settings, strike } = yield* scenario.start
    const finish = yield* startLoad(settings, replicas)
    const end = performance.now() + seconds * 1000
    let strikes = 0
    yield* Effect.sleep(calmMillis)
    do {
      yield* strike
      strikes++
      yield* Effect.sleep(calmMillis)
    } while (performance.now() < end)
    return { scenario, strikes, findings: yield* finish }
  }))

const outcomes: Array<Outcome> = []
for (const scenario of chosen) {
  const outcome = await Effect.runPromise(
    Effect.provideService(play(scenario), References.MinimumLogLevel, values.json === true ? "None" : "Info")
  )
  outcomes.push(outcome)
  console.log(values.json === true ? JSON.stringify(toJson(outcome)) : describe(outcome))
}
console.log(summarize(outcomes))
process.exitCode = outcomes.every((outcome) => brokenPromises(outcome).length === 0) ? 0 : 1
