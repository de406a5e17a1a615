/** Messages from a publisher to a subscriber in the same process, decoded. */
import { type Case, rate, withAdapter } from "./support/case.ts"

/** What every message carries: 200 bytes as JSON. */
export interface Status {
  readonly n: number
  readonly order: string
  readonly status: string
  readonly at: number
  readonly pad: string
}

/** Publish and subscribe as the measurements use it. */
export interface PubSubAdapter {
  /** Returns when it listens. */
  readonly subscribe: (onMessage: (message: Status) => void) => Promise<unknown>
  /** Publishes all of them at once, each on its own. */
  readonly publish: (messages: ReadonlyArray<Status>) => Promise<unknown>
  readonly close: () => Promise<unknown>
}

const together = 50
// Less than any buffer holds.
const underWayAtMost = 500

const pad = "x".repeat(116)
const message = (n: number): Status => ({ n, order: "order-000042", status: "packed", at: 1760000000000, pad })

const systems = { ours: "ours/pubSub.ts", floor: "floors/pubSub.ts" }

const deliver: Case = {
  name: "pubsub.deliver",
  figures: [{ id: "pubsub.deliver", unit: "messages/s", better: "more" }],
  about: "50 messages of 200 bytes at a time, each published on its own; floor: ioredis and JSON.parse",
  isRate: true,
  size: 0,
  smokeSize: 0,
  systems,
  run: withAdapter<PubSubAdapter>(systems, async (pubSub, { seconds }, probe) => {
    let received = 0
    await pubSub.subscribe(({ n }) => {
      if (n !== received) throw new Error(`message ${n} came when ${received} was due`)
      received++
    })
    let sent = 0
    const underWay = () => sent - received
    const fallsTo = async (most: number) => {
      const end = performance.now() + 5000
      while (underWay() > most) {
        if (performance.now() > end) throw new Error(`${underWay()} messages are lost`)
        await new Promise(setImmediate)
      }
    }
    const cost = await probe.cost(async () => {
      const end = performance.now() + seconds * 1000
      while (performance.now() < end) {
        await pubSub.publish(Array.from({ length: together }, () => message(sent++)))
        await fallsTo(underWayAtMost)
      }
      await fallsTo(0)
      return { n: received }
    })
    return rate("pubsub.deliver", cost)
  })
}

export const pubSubCases: ReadonlyArray<Case> = [deliver]
