/** Sends what ioredis writes in one turn of the event loop in one write, and tells of each command whether it was written. */
import type { Command, Redis as Client } from "ioredis"

type Stream = Client["stream"]

/** So many characters do not wait for more: the server works on them while the rest of the turn goes on. */
const worthAWrite = 2048

/**
 * Has `client` hold back what it writes until the turn ends: a system call for each command, or a chunk for each in one
 * call, would cost more than all the rest. `onCommand` is called with each command that the client was told to send.
 */
export const inOneWrite = (client: Client, onCommand: (command: Command, written: boolean) => void): void => {
  let holding: Stream | undefined
  let held = ""

  const hold = (): void => {
    const { stream } = client
    if (stream === undefined || stream.destroyed) return
    holding = stream
    stream.write = holdBack as Stream["write"]
    process.nextTick(letGo)
  }

  const holdBack = (...[chunk, ...more]: Parameters<Stream["write"]>): boolean => {
    if (typeof chunk === "string" && more.length === 0) {
      held += chunk
      return true
    }
    flush()
    return Object.getPrototypeOf(holding).write.call(holding, chunk, ...more)
  }

  const flush = (): void => {
    if (held === "") return
    const text = held
    held = ""
    // What it was to say is answered for when it has closed meanwhile.
    if (holding?.writable === true) Object.getPrototypeOf(holding).write.call(holding, text)
  }

  const letGo = (): void => {
    flush()
    delete (holding as { write?: unknown } | undefined)?.write
    holding = undefined
  }

  // With the offline queue off, ioredis either writes a command and queues it for its reply, or rejects it on the spot.
  const unanswered = client as unknown as { readonly commandQueue: { readonly length: number } }
  const sendCommand = client.sendCommand.bind(client)
  client.sendCommand = (command, stream) => {
    if (holding === undefined) hold()
    const before = unanswered.commandQueue.length
    const reply = sendCommand(command, stream)
    if (held.length > worthAWrite) flush()
    onCommand(command, unanswered.commandQueue.length > before)
    return reply
  }
}
