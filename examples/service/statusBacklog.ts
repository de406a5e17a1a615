/** Tells which of a queue's events nobody has published yet: those that came from the queue and not on the channel. */
import type { StatusChange } from "./domain.ts"

export interface StatusBacklog {
  /** The queue has told of these. */
  readonly happened: (changes: ReadonlyArray<StatusChange>) => void
  /** Somebody has published this one. */
  readonly published: (change: StatusChange) => void
  /** The unpublished ones, in order, as the caller is about to publish them. They are not given out twice. */
  readonly take: () => ReadonlyArray<StatusChange>
  /** Gives back what was taken and certainly not published. */
  readonly giveBack: (changes: ReadonlyArray<StatusChange>) => void
  /** What was published lately is not known. To publish nothing twice, takes all for published. */
  readonly forget: () => void
}

// Two processes read the same events within milliseconds. What is older than this is of no interest any more, or its
// counterpart was never seen, as this process started in between.
const longestMillis = 60_000

/** `onWork` is called when there may be something to take. */
export const makeStatusBacklog = (onWork: () => void): StatusBacklog => {
  const unpublished = new Map<string, { readonly change: StatusChange; taken: boolean }>()
  /** Published before the queue told of them here. */
  const early = new Map<string, number>()

  const keyOf = ({ at, jobId, status }: StatusChange) => `${at} ${status} ${jobId}`

  // Both maps are in the order of time, give or take a moment.
  const dropOld = (now: number) => {
    for (const [key, { change }] of unpublished) {
      if (now - change.at < longestMillis) break
      unpublished.delete(key)
    }
    for (const [key, at] of early) {
      if (now - at < longestMillis) break
      early.delete(key)
    }
  }

  return {
    happened: (changes) => {
      for (const change of changes) {
        const key = keyOf(change)
        if (!early.delete(key)) unpublished.set(key, { change, taken: false })
      }
      const last = changes.at(-1)
      if (last !== undefined) dropOld(last.at)
      onWork()
    },
    published: (change) => {
      const key = keyOf(change)
      if (!unpublished.delete(key)) early.set(key, change.at)
    },
    take: () => {
      const taken: Array<StatusChange> = []
      for (const entry of unpublished.values()) {
        if (entry.taken) continue
        entry.taken = true
        taken.push(entry.change)
      }
      return taken
    },
    giveBack: (changes) => {
      for (const change of changes) {
        const entry = unpublished.get(keyOf(change))
        if (entry !== undefined) entry.taken = false
      }
    },
    forget: () => {
      unpublished.clear()
      early.clear()
    }
  }
}
