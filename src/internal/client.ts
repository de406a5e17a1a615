/** What each ioredis client of ours needs: credentials that stay out of sight, and an end within a bounded time. */
import { Redactable } from "effect"
import type { Cluster, Redis as Client } from "ioredis"
import { inspect } from "node:util"

const goodbyeMillis = 250

/** Ends a client for good, within a bounded time, whatever state it is in. */
export const close = async (client: Client, politely: boolean): Promise<void> => {
  if (politely && client.status === "ready") await settledWithin(client.quit(), goodbyeMillis)
  client.disconnect()
  // `disconnect` waits for the other side to close too, which a dead peer never does.
  client.stream?.destroy()
}

/** Keeps the credentials in the client's options out of what `inspect`, `JSON.stringify` and Effect show of it. */
export const concealed = <C extends Client | Cluster>(client: C): C => {
  const shown = () => `Redis(${client.status})`
  Object.defineProperty(client, inspect.custom, { value: shown })
  Object.defineProperty(client, Redactable.symbolRedactable, { value: shown })
  return Object.defineProperty(client, "toJSON", { value: shown })
}

// Real time, not Effect's: the network does not wait for a test clock.
const settledWithin = (promise: Promise<unknown>, millis: number): Promise<void> =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, millis)
    const settle = () => {
      clearTimeout(timer)
      resolve()
    }
    promise.then(settle, settle)
  })
