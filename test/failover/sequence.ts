/** What the replies to one caller's INCRs tell: which of them were lost afterwards, and which ran twice. */

export interface Sequence {
  /** An INCR was acknowledged with this value. */
  readonly acknowledged: (value: number) => void
  /** An INCR failed as `Unknown`: it may have run, or run yet. */
  readonly unknown: () => void
  /** What the counter holds when nobody counts any more. */
  readonly end: (value: number) => void
  readonly verdict: () => SequenceVerdict
}

export interface SequenceVerdict {
  /** INCRs that were acknowledged, and are not in the counter. */
  readonly lost: number
  /** INCRs too many, even if all that were unknown ran. */
  readonly twice: number
}

/** Of a counter that nobody else counts with, one INCR at a time. */
export const makeSequence = (): Sequence => {
  /** Acknowledged values that are in the counter still. */
  const kept: Array<number> = []
  let last = 0
  let doubtful = 0
  let lost = 0
  let twice = 0

  /** The counter stands at `value`, and so many of our own INCRs, not counted before, are in it. */
  const found = (value: number, own: number): void => {
    // A master that took over knows nothing of them.
    while (kept.length > 0 && kept.at(-1)! > value - own) {
      kept.pop()
      lost++
    }
    const more = Math.max(0, value - own - last)
    twice += Math.max(0, more - doubtful)
    doubtful -= Math.min(more, doubtful)
    last = value
  }

  return {
    acknowledged: (value) => {
      found(value, 1)
      kept.push(value)
    },
    unknown: () => {
      doubtful++
    },
    end: (value) => found(value, 0),
    verdict: () => ({ lost, twice })
  }
}
