/** The smallest Redis client: for looking at a server without the library under test, or its driver, in between. */
import { connect } from "node:net"

export type Reply = string | number | null | ReadonlyArray<Reply>

/** Sends commands over a connection of their own and replies to the last one. Rejects on the first error reply. */
export const request = (
  port: number,
  commands: ReadonlyArray<ReadonlyArray<string | number>>,
  withinMillis = 10_000
): Promise<Reply> =>
  new Promise((resolve, reject) => {
    const socket = connect({ host: "127.0.0.1", port, noDelay: true })
    const timer = setTimeout(() => fail(new Error(`No reply to ${spell()} in ${withinMillis} ms`)), withinMillis)
    const fail = (error: Error) => {
      clearTimeout(timer)
      socket.destroy()
      reject(error)
    }
    let waiting = commands.length
    const spell = () => commands[commands.length - waiting]?.join(" ")
    let unread = Buffer.alloc(0)
    socket.on("error", fail)
    socket.on("close", () => fail(new Error(`The server hung up on ${spell()}`)))
    socket.on("data", (chunk) => {
      unread = Buffer.concat([unread, chunk])
      for (let read = parse(unread, 0); read !== undefined; read = parse(unread, 0)) {
        if (read.reply instanceof Error) return fail(new Error(`${spell()}: ${read.reply.message}`))
        unread = unread.subarray(read.next)
        waiting -= 1
        if (waiting > 0) continue
        clearTimeout(timer)
        socket.destroy()
        return resolve(read.reply)
      }
    })
    socket.write(commands.map(encode).join(""))
  })

const encode = (command: ReadonlyArray<string | number>) =>
  `*${command.length}\r\n` + command.map((arg) => `$${Buffer.byteLength(String(arg))}\r\n${arg}\r\n`).join("")

/** Reads one reply, or nothing if it has not arrived in full. */
const parse = (
  buffer: Buffer,
  start: number
): { readonly reply: Reply | Error; readonly next: number } | undefined => {
  const end = buffer.indexOf("\r\n", start)
  if (end < 0) return undefined
  const type = String.fromCharCode(buffer[start] ?? 0)
  const head = buffer.toString("utf8", start + 1, end)
  const next = end + 2
  if (type === "+") return { reply: head, next }
  if (type === "-") return { reply: new Error(head), next }
  const length = Number(head)
  if (type === ":") return { reply: length, next }
  if (length < 0) return { reply: null, next }
  if (type === "$") {
    if (buffer.length < next + length + 2) return undefined
    return { reply: buffer.toString("utf8", next, next + length), next: next + length + 2 }
  }
  const items: Array<Reply> = []
  let at = next
  for (let i = 0; i < length; i++) {
    const item = parse(buffer, at)
    if (item === undefined) return undefined
    items.push(item.reply instanceof Error ? item.reply.message : item.reply)
    at = item.next
  }
  return { reply: items, next: at }
}
