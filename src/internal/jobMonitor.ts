/** What a worker tells of itself: a probe for Health, and counters of how jobs ended. */
import { Clock, Effect, Metric, type Scope } from "effect"
import { monotonicMillis } from "./monotonic.ts"
import type { ProbeResult } from "./probes.ts"
import type { QueueEngine, Report } from "./queueEngine.ts"
import { countsOf, type Queue } from "./queuePartitions.ts"

const attempts = Metric.counter("redis_queue_attempts", {
  description: "Attempts at jobs, by queue and how they ended",
  incremental: true
})
const claims = Metric.counter("redis_queue_claims", { description: "Jobs claimed, by queue", incremental: true })

const outcomes: { readonly [Kind in Report["kind"]]?: string } = {
  complete: "completed",
  dead: "failed",
  cancelled: "cancelled",
  retry: "retried",
  release: "released"
}

/** How a worker keeps its books. */
export interface JobMonitor {
  /** A step of a partition went through, with so many claims. */
  readonly stepped: (partition: number, claimed: number) => void
  /** An attempt ended. */
  readonly ended: (report: Report) => void
}

/**
 * Counts for one queue, and registers its probe. A worker that has not been through to each partition for
 * `patienceMillis` is unhealthy.
 */
export const makeJobMonitor = (
  engine: QueueEngine,
  queue: Queue,
  patienceMillis: number,
  running: () => number
): Effect.Effect<JobMonitor, never, Scope.Scope> =>
  Effect.gen(function*() {
    const clock = yield* Clock.Clock
    const lastStepAt = queue.partitions.map(() => monotonicMillis(clock))
    const context = yield* Effect.context()
    const byOutcome = new Map(
      Object.values(outcomes).map((outcome) => [
        outcome,
        Metric.withAttributes(attempts, { queue: queue.name, outcome })
      ])
    )
    const claimed = Metric.withAttributes(claims, { queue: queue.name })

    const check = Effect.gen(function*() {
      const { oldestEnqueuedAt, ...counts } = yield* countsOf(queue)
      const now = yield* Clock.currentTimeMillis
      const silentMillis = monotonicMillis(clock) - Math.min(...lastStepAt)
      const stuck = silentMillis > patienceMillis
      const result: ProbeResult = {
        status: stuck ? "unhealthy" : "healthy",
        reasons: stuck ? [`its worker has not reached it for ${Math.round(silentMillis / 1000)} s`] : [],
        details: {
          ...counts,
          running: running(),
          oldestWaitingMillis: oldestEnqueuedAt === undefined ? 0 : Math.max(0, now - oldestEnqueuedAt)
        }
      }
      return result
    })
    yield* engine.registerProbe({ name: `queue ${queue.name}`, check })

    return {
      stepped: (partition, count) => {
        lastStepAt[partition] = monotonicMillis(clock)
        if (count > 0) claimed.updateUnsafe(count, context)
      },
      ended: (report) => {
        const outcome = outcomes[report.kind]
        if (outcome !== undefined) byOutcome.get(outcome)?.updateUnsafe(1, context)
      }
    }
  })
