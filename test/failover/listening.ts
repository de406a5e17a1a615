/** One who publishes numbers, and one who listens and counts what is missing. */
import { Effect, Fiber, Result, Schema, Stream } from "effect"
import * as Channel from "../../src/Channel.ts"
import type { PubSub } from "../../src/PubSub.ts"
import { hot, type Load } from "./loadContext.ts"
import { makeCaller, makeTally, type Tally } from "./tally.ts"

const Numbers = Channel.make(hot, Schema.Finite)

export interface ListeningFindings {
  readonly tally: Tally
  readonly events: {
    readonly received: number
    readonly gaps: number
    /** Acknowledged, and not received. */
    readonly missed: number
    /** `missed` where no gap told of it. */
    readonly unannounced: number
  }
}

export const listen = (load: Load, pubsub: PubSub["Service"]): Effect.Effect<ListeningFindings> =>
  Effect.scoped(Effect.gen(function*() {
    const tally = makeTally()
    const acknowledged = new Set<number>()
    const received = new Set<number>()
    /** The last number before each gap. */
    const gapsAfter: Array<number> = []
    let last = 0

    const events = yield* pubsub.eventsScoped(Numbers, { buffer: { size: 100_000 } })
    const listening = yield* Effect.forkChild(
      Stream.runForEach(events, (event) =>
        Effect.sync(() => {
          if (event._tag === "Gap") gapsAfter.push(last)
          if (event._tag !== "Message") return
          received.add(event.message)
          last = Math.max(last, event.message)
        }))
    )
    const call = makeCaller(tally)
    let n = 0
    while (!load.stopped()) {
      n++
      if (Result.isSuccess(yield* call(pubsub.publish(Numbers, n)))) acknowledged.add(n)
      yield* Effect.sleep("5 millis")
    }
    const deadline = performance.now() + 5000
    const newest = Math.max(0, ...acknowledged)
    while (!received.has(newest) && performance.now() < deadline) yield* Effect.sleep("20 millis")
    yield* Fiber.interrupt(listening)

    const missed = Array.from(acknowledged).filter((number) => !received.has(number))
    const ordered = Array.from(received).toSorted((a, b) => a - b)
    // Announced is what is missing right after the last number before a gap.
    const unannounced = missed.filter((number) => {
      const before = ordered.findLast((other) => other < number) ?? 0
      return !gapsAfter.includes(before)
    })
    return {
      tally,
      events: {
        received: received.size,
        gaps: gapsAfter.length,
        missed: missed.length,
        unannounced: unannounced.length
      }
    }
  })).pipe(Effect.orDie)
