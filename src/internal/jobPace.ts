/** How fast a worker's jobs are, and so how many it may claim before it has room for them. */

/** How long a job may wait for a handler here at most, by estimate: about as long as it takes to ask for it. */
const longestAheadMillis = 25
/** How many round trips' worth of jobs are claimed ahead. */
const tripsAhead = 3
/** How much of an estimate each new sample replaces. */
const weight = 1 / 8

export interface Pace {
  /** A job ended after so many milliseconds. */
  readonly ended: (millis: number) => void
  /** A call to the queue took so many milliseconds. */
  readonly called: (millis: number) => void
  /** No job has started for so long, although some wait. */
  readonly stood: (millis: number) => void
  /** How many jobs may be claimed ahead. */
  readonly ahead: () => number
  /** After how many milliseconds without a start those that wait are given back. */
  readonly patience: () => number
}

/**
 * A worker that runs `concurrency` jobs at once starts the next one every `duration / concurrency`: what it can start
 * within a few round trips, it may claim ahead. Slow jobs make that none.
 */
export const makePace = (concurrency: number, most: number): Pace => {
  // Nothing is claimed ahead before a job has shown how long it takes.
  let jobMillis = Infinity
  let callMillis = 0.5
  const horizon = () => Math.min(tripsAhead * callMillis, longestAheadMillis)
  return {
    ended: (millis) => {
      jobMillis = jobMillis === Infinity ? millis : jobMillis + (millis - jobMillis) * weight
    },
    called: (millis) => {
      callMillis += (millis - callMillis) * weight
    },
    stood: (millis) => {
      jobMillis = Math.max(jobMillis, concurrency * millis)
    },
    ahead: () => Math.min(most, Math.floor(concurrency * horizon() / Math.max(jobMillis, 1e-6))),
    patience: () => Math.max(20, 2 * horizon())
  }
}
