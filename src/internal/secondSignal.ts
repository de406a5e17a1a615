/** A second signal while something shuts down: whoever sends it will not wait. */

const signals = ["SIGINT", "SIGTERM"] as const

/**
 * Calls `hurry` on a signal from now on, until the function that it yields is called. Where nobody else listens, the
 * signal then ends the process, as it would have at once.
 */
export const onSecondSignal = (hurry: () => void): () => void => {
  let received: typeof signals[number] | undefined
  const listeners = signals.map((signal) => ({
    signal,
    listener: () => {
      received = signal
      hurry()
    }
  }))
  for (const { listener, signal } of listeners) process.on(signal, listener)
  return () => {
    for (const { listener, signal } of listeners) process.off(signal, listener)
    if (received !== undefined && process.listenerCount(received) === 0) process.kill(process.pid, received)
  }
}
