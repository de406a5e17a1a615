/** Short trials: what a checker of histories must be able to judge in a few seconds. */
import { Effect, type Scope } from "effect"
import { type History, machineMillis } from "./events.ts"
import type { Member } from "./members.ts"
import { startTrial, type Trial } from "./trial.ts"

/** What the checker has to know of the trials. */
export const untroubled = { leaseMillis: 5000 }
export const troubled = { leaseMillis: 500 }

/** Nothing is done to anyone: one producer that waits for each reply, and one worker. */
export const runUntroubled: Effect.Effect<History, never, Scope.Scope> = Effect.gen(function*() {
  const trial = yield* startTrial({ ...untroubled, commandTimeoutMillis: 5000, proxies: 0 })
  yield* startAll(trial.start("worker"), trial.start("producer", { callers: 1, perSecond: 400, longShare: 0 }))
  yield* Effect.sleep("1500 millis")
  return yield* trial.settle(10_000)
})

/**
 * One of everything: what a worker says arrives when its lease has passed, cuts, a pause, a kill. Then the queues have
 * so long to run empty. The processes run from `fixtures`, when that is given.
 */
export const runTroubled = (
  settleMillis: number,
  fixtures?: URL
): Effect.Effect<History, never, Scope.Scope> =>
  Effect.gen(function*() {
    const trial = yield* startTrial({ ...troubled, commandTimeoutMillis: 5000, proxies: 2, fixtures })
    const [late, victim] = yield* startAll(
      trial.start("worker", { proxy: 0 }),
      trial.start("worker"),
      trial.start("taker", { proxy: 1 }),
      trial.start("producer", { perSecond: 150, slowShare: 0.5, longShare: 0.2 })
    )
    const passing = 2.5 * troubled.leaseMillis
    yield* untilBusy(trial, late!)
    yield* trial.block(0, "hold", "requests", passing)
    yield* trial.cut(0, "now")
    yield* trial.cut(1, "reply")
    yield* untilBusy(trial, victim!)
    yield* victim!.pause
    yield* Effect.sleep(passing)
    yield* victim!.resume
    yield* untilBusy(trial, victim!)
    yield* victim!.kill
    return yield* trial.settle(settleMillis)
  })

const startAll = (...starts: ReadonlyArray<Effect.Effect<Member, never, Scope.Scope>>) =>
  Effect.tap(
    Effect.all(starts, { concurrency: "unbounded" }),
    (members) => Effect.forEach(members, ({ ready }) => ready, { concurrency: "unbounded" })
  )

/** How many jobs a process is to have begun, and for how long they are to run on, before something is done to it. */
const enough = 2
const longMillis = 150

/** Waits until what is done to a process now hits it in the middle of some jobs. */
const untilBusy = (trial: Trial, { name }: Member): Effect.Effect<void> =>
  Effect.gen(function*() {
    const since = machineMillis()
    while (true) {
      const busyUntil = machineMillis() + longMillis
      const long = trial.history().filter((entry) =>
        entry.by === name && entry.kind === "started" && entry.at > since && entry.at + entry.millis > busyUntil
      )
      if (long.length >= enough) return
      yield* Effect.sleep("5 millis")
    }
  })
