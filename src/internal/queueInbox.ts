/** Where a process gets its letters: a channel for its queues and one for shared ones, subscribed while someone listens. */
import { Effect, RcMap, type Scope } from "effect"
import type { RedisClient } from "../RedisClient.ts"
import { sharedNamespace } from "./keys.ts"
import type { Letter, QueueEngine } from "./queueEngine.ts"
import { readRecord, withNul } from "./queueRecord.ts"

type Listen = (letter: Letter) => void

/** The inbox of the process that `client` belongs to. */
export const makeInbox = (
  client: RedisClient["Service"]
): Effect.Effect<QueueEngine["inbox"], never, Scope.Scope> => {
  const id = crypto.randomUUID().slice(0, 13)
  // Who works on a shared queue is written to by other services, which may publish in the shared namespace only.
  const addressOf = (queue: string) =>
    `${queue.startsWith(`${sharedNamespace}:`) ? sharedNamespace : client.namespace}:inbox:${id}`
  const listeners = new Map<string, Set<Listen>>()
  const post = (letter: Letter) => {
    // Letters that came while the connection was away are lost: whoever waits for one looks for itself.
    const concerned = letter.kind === "gap" ? [...listeners.values()] : [listeners.get(letter.queue) ?? []]
    for (const each of concerned) for (const listener of [...each]) listener(letter)
  }
  const listening = (queue: string, listener: Listen) =>
    Effect.acquireRelease(
      Effect.sync(() => {
        const each = listeners.get(queue) ?? new Set()
        listeners.set(queue, each.add(listener))
      }),
      () =>
        Effect.sync(() => {
          const each = listeners.get(queue)
          each?.delete(listener)
          if (each?.size === 0) listeners.delete(queue)
        })
    )
  // One subscription for all who listen, so that each message is read once.
  const subscriptions = RcMap.make({
    lookup: (address: string) =>
      client.subscribe("channel", address, {
        onMessage: (message) => {
          const letter = readLetter(message)
          if (letter !== undefined) post(letter)
        },
        onGap: () => post({ kind: "gap" })
      })
  })
  return Effect.map(subscriptions, (open) => ({
    addressOf,
    listen: (queue, listener) => Effect.andThen(listening(queue, listener), RcMap.get(open, addressOf(queue)))
  }))
}

/**
 * `w<queue> NUL <request>`, `j<queue> NUL <request> NUL <token> NUL <id> NUL <record>`, `p<queue>`,
 * `c<queue> NUL <id> NUL <reason>`, `f<queue> NUL <id>`. A request is its owner, and behind a space its number.
 */
const readLetter = (message: string): Letter | undefined => {
  const [queue = "", first = "", ...rest] = message.slice(1).split("\0")
  const space = first.lastIndexOf(" ")
  switch (message[0]) {
    case "w":
      return { kind: "wake", queue, owner: first.slice(0, space) }
    case "j": {
      const [token, id = "", ...record] = rest
      const claim = { id, token: Number(token), record: readRecord(record.join("\0")) }
      return { kind: "job", queue, owner: first.slice(0, space), number: first.slice(space + 1), claim }
    }
    case "p":
      return { kind: "pause", queue }
    case "c":
      return { kind: "cancel", queue, id: first, reason: withNul(rest.join("\0")) }
    case "f":
      return { kind: "finished", queue, id: first }
    default:
      return undefined
  }
}
