/** What all kinds of load have in common. */
import type { RedisClient } from "../../src/RedisClient.ts"

/** Queue, lock, channel and half of the counters have this for their hash tag: all are in its slot. */
export const hot = "hot"

export interface Load {
  readonly client: RedisClient["Service"]
  readonly stopped: () => boolean
  readonly withinMillis: number
}
