/** Waits for something, but not for ever. */

// A timer that is to wait longer fires at once.
const longestTimerMillis = 2 ** 31 - 1

/** Whether it comes true in time: real time, as a shutdown must not wait for a test to move its clock. */
export const within = (promise: Promise<void>, millis: number): Promise<boolean> =>
  new Promise((resolve) => {
    const timer = setTimeout(() => resolve(false), Math.min(millis, longestTimerMillis))
    void promise.then(() => {
      clearTimeout(timer)
      resolve(true)
    })
  })
