/** A second signal while something shuts down: whoever sends it will not wait. */

const signals = ["SIGINT", "SIGTERM"] as const

// One listener for all that shuts down: a process may hold hundreds of queues.
const hurries = new Set<() => void>()
let received: typeof signals[number] | undefined

const listener = (signal: typeof signals[number]) => {
  received = signal
  for (const hurry of [...hurries]) hurry()
}

/**
 * Calls `hurry` on a signal from now on, until the function that it yields is called. Where nobody else listens, the
 * signal ends the process after the last of them, as it would have at once.
 */
export const onSecondSignal = (hurry: () => void): () => void => {
  if (hurries.size === 0) { for (const signal of signals) process.on(signal, listener) }
  hurries.add(hurry)
  return () => {
    if (!hurries.delete(hurry) || hurries.size > 0) return
    for (const signal of signals) process.off(signal, listener)
    if (received !== undefined && process.listenerCount(received) === 0) process.kill(process.pid, received)
    received = undefined
  }
}
