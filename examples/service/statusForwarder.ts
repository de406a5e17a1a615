/**
 * Publishes what becomes of messages: the queue's events, each once, however many processes do this.
 *
 * Every API process reads the queue's events, and hears what is published. One of them, which holds a lock, publishes;
 * the others only note what was published, so that whoever takes over goes on where the last one stopped: nothing is
 * lost while nobody holds the lock, and nothing comes twice or out of order.
 */
import { Effect, Latch, Layer, Schedule, Stream } from "effect"
import { DistributedLock, type JobEvent, JobQueue, PubSub } from "effect-redis-kit"
import type { Status, StatusChange } from "./domain.ts"
import { Notify } from "./notify.ts"
import { makeStatusBacklog, type StatusBacklog } from "./statusBacklog.ts"
import { AllStatuses, Statuses } from "./statusFeed.ts"

/** How long it takes at most until another process publishes in place of one that was killed. */
const lease = "3 seconds"
/** What the last one published shortly before it let go has arrived after this time. */
const settling = "100 millis"
const again = Schedule.spaced("1 second")

export const statusForwarder = Layer.effectDiscard(Effect.gen(function*() {
  const locks = yield* DistributedLock
  const pubsub = yield* PubSub
  const work = yield* Latch.make()
  const backlog = makeStatusBacklog(() => work.openUnsafe())

  // Listens before it reads: what is published from now on is known to be.
  const published = yield* pubsub.eventsScoped(AllStatuses, { buffer: { size: 100_000 } })
  yield* Effect.forkScoped(
    Stream.runForEach(published, (event) =>
      Effect.sync(() => {
        if (event._tag === "Message") backlog.published(event.message)
        else if (event._tag !== "Undecodable") backlog.forget()
      }))
  )
  // Live from here on, before the first request: what this process takes in is told.
  const queue = yield* JobQueue
  const first = yield* queue.eventsScoped(Notify)
  yield* readInto(backlog, first).pipe(
    Effect.catch(() => Effect.retry(readInto(backlog, queue.events(Notify)), again)),
    Effect.forkScoped
  )
  yield* publishAll(backlog, work).pipe(
    locks.withLock("status-forwarder", { ttl: lease, wait: "1 hour" }),
    Effect.tapError((error) =>
      error._tag === "LockTimeout" ? Effect.void : Effect.logWarning(`Status changes are held up: ${error.message}`)
    ),
    Effect.retry(again),
    Effect.forkScoped
  )
}))

const readInto = <E>(backlog: StatusBacklog, events: Stream.Stream<JobEvent, E>) =>
  Stream.runForEachArray(events, (some) => Effect.sync(() => backlog.happened(some.flatMap(toChange))))

/** Publishes what nobody has, for as long as the lock is held. */
const publishAll = Effect.fnUntraced(function*(backlog: StatusBacklog, work: Latch.Latch) {
  const pubsub = yield* PubSub
  yield* Effect.sleep(settling)
  while (true) {
    work.closeUnsafe()
    const changes = backlog.take()
    if (changes.length === 0) {
      yield* work.await
      continue
    }
    for (const [tenant, ofTenant] of Map.groupBy(changes, ({ tenant }) => tenant)) {
      yield* pubsub.publishAll(Statuses(tenant), ofTenant).pipe(
        Effect.tapError((error) =>
          Effect.sync(() => {
            if (error._tag === "RedisError" && error.outcome === "NotSent") backlog.giveBack(ofTenant)
          })
        )
      )
    }
  }
})

/** What a step of the queue means to those who wait for a message. */
const statuses: Record<JobEvent["kind"], Status | undefined> = {
  queued: "queued",
  active: "active",
  retrying: "retrying",
  // Put back because its patient's turn has not come, or because its worker stops.
  released: "queued",
  // Its worker is gone, and it is done again.
  stalled: "retrying",
  completed: "completed",
  failed: "failed",
  cancelled: "cancelled",
  removed: undefined
}

const toChange = ({ at, id, kind, tenant }: JobEvent): ReadonlyArray<StatusChange> => {
  const status = statuses[kind]
  return status === undefined || tenant === undefined ? [] : [{ jobId: id, tenant, status, at }]
}
