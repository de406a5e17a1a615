/** Jobs taken by hand: leased to a scope, settled one by one, given back with it. */
import { Clock, Deferred, Duration, Effect, Exit, Random, Result, Scope, Semaphore } from "effect"
import type { Job } from "../Job.ts"
import { LeaseLost } from "../JobErrors.ts"
import type { TakenJob } from "../JobInfo.ts"
import { InvalidInput, type RedisError } from "../RedisError.ts"
import { compile, type CompiledJob } from "./compiledJob.ts"
import { finiteMillis, notWaitable, waitableMillis } from "./duration.ts"
import type { OnEnd } from "./heldJobs.ts"
import { failed, hopeless, succeeded, typedFailure, unknownKindMillis } from "./jobAttempt.ts"
import { type Holder, makeHolder } from "./jobHolder.ts"
import { monotonicMillis } from "./monotonic.ts"
import type { Claim, QueueEngine, QueueStore, Report } from "./queueEngine.ts"
import { openQueue } from "./queueOpening.ts"
import { traced } from "./span.ts"

const takeAtMost = 500
const shortestLeaseMillis = 100
// A wake-up may be lost with a connection; then a job is found this much later.
const lookAgainMillis = 2000
/** How many jobs that are not for us it looks behind at once. They come back, so that there is no end to them. */
const passOverAtMost = 1000

/** What is taken from one partition. */
interface Lane {
  readonly store: QueueStore
  readonly holder: Holder
  /** Sends reports until there are none. */
  readonly flush: Effect.Effect<void, RedisError>
  /** What follows when a job was settled. */
  readonly settled: Effect.Effect<void, RedisError>
}

/** `take` over an engine. */
export const makeTake = (engine: QueueEngine) => {
  // Another one each time.
  let firstPartition = 0
  return <Name extends string, P, A, E>(
    job: Job<Name, P, A, E>,
    count: number,
    options?: { readonly wait?: Duration.Input | undefined; readonly lease?: Duration.Input | undefined }
  ): Effect.Effect<ReadonlyArray<TakenJob<P, A, E>>, InvalidInput | RedisError, Scope.Scope> => {
    const waitMillis = finiteMillis(options?.wait ?? 0)
    const lease = finiteMillis(options?.lease ?? Duration.seconds(30))
    const leaseMillis = lease === undefined ? undefined : Math.ceil(lease)
    const problem = compile(job).problem ??
      (!(Number.isInteger(count) && count >= 1 && count <= takeAtMost)
        ? new InvalidInput({ input: "count", problem: `it is not a whole number from 1 to ${takeAtMost}` })
        : waitMillis === undefined
        ? new InvalidInput({ input: "wait", problem: "it is not a finite duration of at least 0" })
        : leaseMillis === undefined || leaseMillis < shortestLeaseMillis
        ? new InvalidInput({
          input: "lease",
          problem: `it is not a finite duration of at least ${shortestLeaseMillis} ms`
        })
        : undefined)
    return problem === undefined
      ? traced(
        take(engine, job, count, waitMillis!, leaseMillis!, firstPartition++),
        `receive ${job.queue}`,
        "consumer",
        () => ({
          "messaging.system": "redis",
          "messaging.operation.type": "receive",
          "messaging.destination.name": job.queue
        })
      )
      : Effect.fail(problem)
  }
}

const take = <Name extends string, P, A, E>(
  engine: QueueEngine,
  job: Job<Name, P, A, E>,
  count: number,
  waitMillis: number,
  leaseMillis: number,
  firstPartition: number
) =>
  Effect.gen(function*() {
    const queue = yield* openQueue(engine, job)
    // Of its own, and closed when nothing is held any more: a program may take again and again in one scope.
    const scope = yield* Scope.fork(yield* Scope.Scope)
    const closeWhenFree = Effect.suspend(() =>
      lanes.every(({ holder }) => holder.held.size === 0) ? Scope.close(scope, Exit.void) : Effect.void
    )
    const compiled = compile(job)
    const taken: Array<TakenJob<P, A, E>> = []
    // Set while the caller waits: what comes later, as a reply was lost, is for others.
    let wanted = true
    const receive = (lane: Lane, claim: Claim): OnEnd => {
      const { holder } = lane
      const payload = claim.record === undefined ? undefined : compiled.payload.decode(claim.record.payload)
      if (claim.record !== undefined && (claim.record.name || job.queue) !== job.name) {
        holder.settle(claim.id, claim.token, { kind: "release", delayMillis: unknownKindMillis })
      } else if (payload === undefined || Result.isFailure(payload)) {
        const message = payload === undefined ? "its record is of an unknown version" : payload.failure.message
        holder.settle(claim.id, claim.token, hopeless("", claim, { reason: "undecodable", message }))
      } else if (!wanted || taken.length === count) {
        // So is what several partitions bring at once.
        holder.settle(claim.id, claim.token, { kind: "release", delayMillis: 0 })
      } else {
        taken.push(toTaken(holder, lane.settled, job, compiled, claim, payload.success))
      }
      return () => {}
    }
    const lanes: ReadonlyArray<Lane> = Array.from({ length: queue.partitions.length }, (_, i) => {
      const store = queue.partitions[(firstPartition + i) % queue.partitions.length]!
      const holder: Holder = makeHolder(
        store,
        engine.inbox.addressOf(store.address),
        leaseMillis,
        (claim) => receive(lane, claim),
        () => lanes.every((other) => other === lane || !other.holder.hasLastChance())
      )
      // One after the other, so that each knows at its end whether what it was for has been reported.
      const flush = Semaphore.makeUnsafe(1).withPermits(1)(flushed(holder))
      const lane: Lane = { store, holder, flush, settled: Effect.andThen(flush, closeWhenFree) }
      return lane
    })
    const onAll = <B, F>(f: (lane: Lane) => Effect.Effect<B, F>) =>
      Effect.forEach(lanes, f, { concurrency: "unbounded", discard: true })
    const flushAll = onAll((lane) => lane.holder.reports() > 0 ? lane.flush : Effect.void)
    // First of all, so that whatever is claimed from here on is given back, however this ends.
    yield* Scope.addFinalizer(
      scope,
      onAll(({ flush, holder }) => {
        for (const { claim } of holder.held.values()) {
          holder.settle(claim.id, claim.token, { kind: "release", delayMillis: 0 })
        }
        return Effect.ignore(Effect.andThen(Effect.ignore(holder.leave), flush), {
          log: "Warn",
          message: "Jobs that were taken are left to their lease"
        })
      })
    )

    const claimFrom = ({ flush, holder }: Lane, sleepMillis: number) =>
      Effect.gen(function*() {
        let passedOver = 0
        while (true) {
          const reply = yield* Effect.uninterruptible(holder.step(Math.max(0, count - taken.length), 0, sleepMillis))
          if (holder.reports() > 0) yield* flush
          passedOver += reply.claims.length
          // Behind jobs that are not for us, and entries of jobs that have gone, there may be one that is.
          const more = reply.claims.length > 0 ? passedOver < passOverAtMost : reply.nextMillis === 0
          if (taken.length > 0 || !more) return reply.nextMillis ?? Infinity
        }
      })
    /** Yields in how many milliseconds something is due. */
    const claim = (sleepMillis: number) =>
      Effect.gen(function*() {
        let nextMillis = lookAgainMillis
        let failure: RedisError | undefined
        for (const lane of lanes) {
          if (taken.length === count) break
          const claimed = yield* Effect.result(claimFrom(lane, taken.length === 0 ? sleepMillis : 0))
          if (Result.isSuccess(claimed)) nextMillis = Math.min(nextMillis, claimed.success)
          else failure ??= claimed.failure
        }
        // A server that is away keeps its own partitions only.
        return failure !== undefined && taken.length === 0 ? yield* failure : nextMillis
      })

    const clock = yield* Clock.Clock
    const wait = Effect.scoped(Effect.gen(function*() {
      let woken = yield* Deferred.make<void>()
      for (const { holder, store } of lanes) {
        yield* engine.inbox.listen(store.address, (letter) => {
          const isForUs = letter.kind === "gap" ||
            (letter.kind === "wake" && (letter.owner === undefined || letter.owner === holder.owner)) ||
            (letter.kind === "job" && letter.owner === holder.owner && holder.hand(letter, monotonicMillis(clock)))
          if (isForUs) Deferred.doneUnsafe(woken, Effect.void)
        })
      }
      // Called no more, however the waiting ends: others are waiting for the next job.
      yield* Effect.addFinalizer(() => onAll(({ holder }) => Effect.ignore(holder.leave)))
      const until = monotonicMillis(clock) + waitMillis
      while (taken.length === 0) {
        const left = until - monotonicMillis(clock)
        if (left <= 0) break
        const nextMillis = yield* claim(Math.min(left, lookAgainMillis) + 1000)
        if (taken.length > 0) break
        yield* Effect.timeoutOption(Deferred.await(woken), Math.min(left, nextMillis))
        woken = yield* Deferred.make<void>()
        // One may have come with the call; there may be more.
        yield* flushAll
        if (taken.length > 0 && taken.length < count) yield* claim(0)
      }
    }))

    // From the first job on: the next partition may take its time.
    for (const { flush, holder } of lanes) yield* Effect.forkIn(holder.keep(Effect.ignore(flush)), scope)
    yield* claim(0).pipe(
      Effect.andThen(Effect.suspend(() => taken.length === 0 && waitMillis > 0 ? wait : Effect.void)),
      Effect.onExit((exit) => {
        wanted = false
        return Exit.isFailure(exit) ? Scope.close(scope, Exit.void) : closeWhenFree
      })
    )
    return taken
  })

/** Sends reports until there are none. */
const flushed = (holder: Holder): Effect.Effect<void, RedisError> =>
  Effect.suspend(() =>
    holder.reports() > 0
      ? Effect.flatMap(holder.step(0, 0, 0), () => flushed(holder))
      : Effect.void
  )

const toTaken = <Name extends string, P, A, E>(
  holder: Holder,
  flush: Effect.Effect<void, RedisError>,
  job: Job<Name, P, A, E>,
  compiled: CompiledJob<P, A, E>,
  claim: Claim,
  payload: P
): TakenJob<P, A, E> => {
  const record = claim.record!
  const settle = (report: Report): Effect.Effect<void, LeaseLost | RedisError> =>
    Effect.suspend(() => {
      let reported: boolean | undefined
      holder.settle(claim.id, claim.token, report, (taken) => {
        reported = taken
      })
      return Effect.flatMap(
        reported === undefined ? flush : Effect.void,
        () => reported === true ? Effect.void : Effect.fail(new LeaseLost({ id: claim.id }))
      )
    })
  const checked = (report: (random: number) => Report) =>
    Effect.flatMap(Random.next, (random) => settle(report(random)))
  return {
    id: claim.id,
    payload,
    attempt: record.failures + 1,
    fencingToken: claim.token,
    complete: (result) => {
      const encoded = compiled.success.encode(result)
      return Result.isFailure(encoded)
        ? Effect.fail(encoded.failure)
        : checked((random) => succeeded(job, record, compiled, result, random))
    },
    fail: (error) => {
      const encoded = compiled.error.encode(error)
      return Result.isFailure(encoded)
        ? Effect.fail(encoded.failure)
        : checked((random) => failed(job, record, typedFailure(compiled, error), random))
    },
    release: (options) => {
      const delayMillis = waitableMillis(options?.delay ?? 0)
      return delayMillis === undefined
        ? Effect.fail(new InvalidInput({ input: "delay", problem: notWaitable }))
        : settle({ kind: "release", delayMillis })
    }
  }
}
