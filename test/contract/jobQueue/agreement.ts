/** Any sequence of steps has the same effect on two engines. */
import { assert } from "@effect/vitest"
import { type Duration, Effect } from "effect"
import * as fc from "fast-check"
import type { Change, Claim, NewJob, QueueStore, Report } from "../../../src/internal/queueEngine.ts"
import { emptyMeta, writeOutcome } from "../../../src/internal/queueRecord.ts"
import type { RedisError } from "../../../src/RedisError.ts"

const ids = ["a", "b", "c", "d", "\u{1F600}", "\uFFFD"]

const newJob = fc.record({
  id: fc.constantFrom(...ids),
  priority: fc.constantFrom(0, 5, 5, 9),
  lifo: fc.boolean(),
  // Never at the moment of a later step, since engines' clocks are a few milliseconds apart.
  delaySeconds: fc.constantFrom(undefined, undefined, 5, 15, 25),
  tenant: fc.constantFrom(undefined, "t", "\u{1F600};")
})

const operation = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({ do: fc.constant("enqueue" as const), jobs: fc.array(newJob, { minLength: 1 }) })
  },
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant("step" as const),
      want: fc.nat({ max: 3 }),
      ahead: fc.constantFrom(0, 0, 1, 3),
      takesLastChance: fc.boolean(),
      reports: fc.array(
        fc.record({
          // Which of the claims made so far, whether they are still held or not.
          claim: fc.nat({ max: 12 }),
          kind: fc.constantFrom("complete", "dead", "cancelled", "retry", "release", "extend"),
          delaySeconds: fc.constantFrom(0, 0, 5, 15)
        }),
        { maxLength: 3 }
      )
    })
  },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant("change" as const),
      kind: fc.constantFrom("cancel", "remove", "retry", "promote"),
      id: fc.constantFrom(...ids)
    })
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("elapse" as const), tens: fc.integer({ min: 1, max: 4 }) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("pause" as const), paused: fc.boolean() }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant("drain" as const), state: fc.constantFrom("waiting", "delayed") })
  }
)
type Operation = typeof operation extends fc.Arbitrary<infer A> ? A : never

/** What both engines are made with: small enough for things to be forgotten. */
export const settings = {
  outcomeMillis: 95_000,
  outcomeCount: 3,
  deadMillis: 125_000,
  maxCrashes: 2,
  lastChanceMillis: 5000,
  eventBatches: 100,
  replicas: undefined
}
const leaseMillis = 35_000
const mostOperations = 30

const toJob = (job: typeof newJob extends fc.Arbitrary<infer A> ? A : never, n: number): NewJob => ({
  id: job.id,
  idIsNew: false,
  record: {
    priority: job.priority,
    lifo: job.lifo,
    enqueuedAt: 5,
    tenant: job.tenant,
    name: "",
    meta: emptyMeta,
    payload: JSON.stringify(n)
  },
  due: job.delaySeconds === undefined ? undefined : { inMillis: job.delaySeconds * 1000 }
})

const toReport = (kind: Report["kind"], delaySeconds: number): Report => {
  const failure = JSON.stringify({ reason: "error", message: "x" })
  switch (kind) {
    case "complete":
    case "cancelled":
      return { kind, outcome: writeOutcome(1, "t", "", "\"done\"") }
    case "dead":
      return { kind, outcome: writeOutcome(1, "t", "", failure) }
    case "retry":
      return { kind, delayMillis: delaySeconds * 1000, failure }
    case "release":
      return { kind, delayMillis: delaySeconds * 1000 }
  }
}

type World = {
  readonly store: QueueStore
  readonly claims: Array<Claim>
}

/** Which of the claims a token is of: engines make different ones. */
const ordinal = ({ claims }: World, token: number): number =>
  [...new Set(claims.map((claim) => claim.token))].indexOf(token)

const request = {
  owner: "me 1 35000",
  number: 1,
  unheard: [],
  reports: [],
  extend: [],
  want: 0,
  ahead: 0,
  takesLastChance: true,
  leaseMillis,
  sleepMillis: 0
}

const run = (world: World, operation: Operation, n: number): Effect.Effect<unknown, RedisError> => {
  const { claims, store } = world
  switch (operation.do) {
    case "enqueue":
      return store.enqueue(operation.jobs.map((job, i) => toJob(job, n * 100 + i)))
    case "step": {
      const wishes = operation.reports.flatMap(({ claim, delaySeconds, kind }) => {
        const made = claims.at(-1 - claim)
        return made === undefined ? [] : [{ made, delaySeconds, kind }]
      })
      const reports = wishes.flatMap(({ delaySeconds, kind, made: { id, record, token } }) =>
        kind === "extend" ? [] : [{ id, token, tenant: record?.tenant, report: toReport(kind, delaySeconds) }]
      )
      // A holder reports each claim once in a step.
      const once = reports.filter((report, i) => reports.findIndex(({ id }) => id === report.id) === i)
      const extend = new Set(wishes.flatMap(({ kind, made }) => kind === "extend" ? [made.token] : []))
      const { ahead, takesLastChance, want } = operation
      return Effect.map(
        store.step({ ...request, number: n, reports: once, extend: [...extend], want, ahead, takesLastChance }),
        (reply) => {
          claims.push(...reply.claims)
          return {
            claims: reply.claims.map((claim) => ({ ...claim, token: ordinal(world, claim.token) })),
            refused: reply.refused,
            lost: reply.lost.map((token) => ordinal(world, token)),
            cancels: reply.cancels.toSorted((a, b) => a.id < b.id ? -1 : 1),
            paused: reply.paused
          }
        }
      )
    }
    case "change": {
      const change: Change = operation.kind === "cancel"
        ? { kind: "cancel", reason: `why ${n}` }
        : { kind: operation.kind }
      return store.change(operation.id, change)
    }
    case "pause":
      return store.setPaused(operation.paused)
    case "drain":
      return Effect.map(store.drainSome(operation.state), (gone) => Math.max(gone, 0))
    case "elapse":
      return Effect.void
  }
}

/** All there is to know of a queue, but for when things happened. */
const look = (store: QueueStore) =>
  Effect.gen(function*() {
    // History is forgotten a little at a time: two batches a step, of which there may be one for each operation.
    for (let i = 0; i < mostOperations / 2; i++) {
      yield* store.step(request)
    }
    const { oldestEnqueuedAt: _, ...counts } = yield* store.counts
    const lists = yield* Effect.forEach(["waiting", "delayed", "active", "failed", "finished"] as const, (state) =>
      Effect.map(store.list(state, "", 100), ({ jobs }) => [
        state,
        ...jobs.map(({ dueAt, outcome, ...job }) => ({
          ...job,
          isDelayed: dueAt !== undefined,
          outcome: outcome && { ...outcome, finishedAt: 0 }
        }))
      ]))
    return { counts, lists }
  })

const plainJob = { priority: 0, lifo: false, delaySeconds: undefined, tenant: undefined } as const
/** Jobs that end in one step, in different ways. */
const endedTogether: ReadonlyArray<Operation> = [
  { do: "enqueue", jobs: [{ id: "a", ...plainJob }, { id: "b", ...plainJob }, { id: "c", ...plainJob }] },
  { do: "step", want: 3, ahead: 0, takesLastChance: false, reports: [] },
  {
    do: "step",
    want: 0,
    ahead: 0,
    takesLastChance: false,
    reports: [
      { claim: 0, kind: "cancelled", delaySeconds: 0 },
      { claim: 1, kind: "complete", delaySeconds: 0 },
      { claim: 2, kind: "cancelled", delaySeconds: 0 }
    ]
  }
]

/** Runs random sequences on a pair of queues that `open` makes. */
export const agree = (
  open: (n: number) => readonly [QueueStore, QueueStore],
  elapse: (duration: Duration.Input) => Effect.Effect<void>
): Effect.Effect<void> =>
  Effect.flatMap(Effect.context(), (context) => {
    let opened = 0
    const check = (operations: ReadonlyArray<Operation>) =>
      Effect.gen(function*() {
        const [one, other] = open(++opened).map((store): World => ({ store, claims: [] })) as [World, World]
        for (const [n, operation] of operations.entries()) {
          yield* elapse(operation.do === "elapse" ? operation.tens * 10_000 : 0)
          const replies = yield* Effect.forEach([one, other], (world) => run(world, operation, n))
          assert.deepStrictEqual(replies[1], replies[0])
          const [expected, found] = yield* Effect.forEach([one, other], ({ store }) => look(store))
          assert.deepStrictEqual(found, expected)
        }
      })
    return Effect.promise(() =>
      fc.assert(
        fc.asyncProperty(
          fc.array(operation, { minLength: 1, maxLength: mostOperations, size: "max" }),
          (operations) => Effect.runPromiseWith(context)(check(operations))
        ),
        { numRuns: 40, examples: [[endedTogether]] }
      )
    )
  })
