/** The keys of a queue's partitions: each in a hash slot of its own, far from those of the others. */
import { slotOf } from "./hashSlot.ts"
import { escapeName, keyBase } from "./keys.ts"
import { slotCount } from "./redirection.ts"

/** How far from where it should be a partition's slot may be. */
const tolerance = 256

/** 0, 1/2, 1/4, 3/4, 1/8, ...: however many of these there are, they are spread evenly from 0 to 1. */
const fractionOf = (index: number): number => {
  let fraction = 0
  for (let rest = index, part = 0.5; rest > 0; rest >>= 1, part /= 2) if (rest % 2 === 1) fraction += part
  return fraction
}

/**
 * The part that all keys of a partition begin with. The first partition's is that of a queue without partitions, so that
 * nothing is lost when a queue gets some. The others bear an `@`, which is escaped in names, and whichever number puts
 * them far apart: masters hold ranges of slots.
 */
export const partitionBase = (namespace: string, queue: string, partition: number): string => {
  const base = keyBase(namespace, "queue", queue)
  if (partition === 0) return base
  const tag = escapeName(queue)
  const target = slotOf(tag) + fractionOf(partition) * slotCount
  for (let n = 0;; n++) {
    const suffix = `@${partition}.${n}`
    const distance = (slotOf(tag + suffix) - target + 3 * slotCount) % slotCount
    if (Math.min(distance, slotCount - distance) <= tolerance) return `${base.slice(0, -1)}${suffix}}`
  }
}
