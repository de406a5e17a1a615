/** A second signal while something shuts down: whoever sends it will not wait. */

const signals = ["SIGINT", "SIGTERM"] as const

/** Calls `hurry` on a signal from now on, until the function that it yields is called. */
export const onSecondSignal = (hurry: () => void): () => void => {
  for (const signal of signals) process.on(signal, hurry)
  return () => {
    for (const signal of signals) process.off(signal, hurry)
  }
}
