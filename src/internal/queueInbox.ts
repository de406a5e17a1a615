/** Where a process gets its letters: one channel for all its queues, subscribed while someone listens. */
import type { RedisClient } from "../RedisClient.ts"
import type { Letter, QueueEngine } from "./queueEngine.ts"

/** The inbox of the process that `client` belongs to. */
export const makeInbox = (client: RedisClient["Service"]): QueueEngine["inbox"] => {
  const address = `${client.namespace}:inbox:${crypto.randomUUID().slice(0, 13)}`
  // All listeners are handed the same message one after the other: it is read once.
  let message = ""
  let letter: Letter | undefined
  const read = (received: string) => {
    if (received !== message) {
      message = received
      letter = readLetter(received)
    }
    return letter
  }
  return {
    address,
    listen: (listener) =>
      client.subscribe("channel", address, {
        onMessage: (received) => {
          const letter = read(received)
          if (letter !== undefined) listener(letter)
        },
        // Letters that came while the connection was away are lost: whoever waits for one looks for itself.
        onGap: () => listener({ kind: "wake", queue: "" })
      })
  }
}

/** `w<queue>`, `c<queue> NUL <id> NUL <reason>`, `f<queue> NUL <id>`. */
const readLetter = (message: string): Letter | undefined => {
  const [queue = "", id = "", ...rest] = message.slice(1).split("\0")
  switch (message[0]) {
    case "w":
      return { kind: "wake", queue }
    case "c":
      return { kind: "cancel", queue, id, reason: rest.join("\0") }
    case "f":
      return { kind: "finished", queue, id }
    default:
      return undefined
  }
}
