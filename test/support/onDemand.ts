/** What is dear to start is started once for all test workers, when the first of them asks for it. */
import { type AddressInfo, connect, createServer, type Socket } from "node:net"

/** The part of the process that outlives the workers: answers `obtain` on `port` with what a start by that name yielded. */
export const offer = async <Name extends string>(
  starts: Readonly<Record<Name, () => Promise<unknown>>>
): Promise<{ readonly port: number; readonly close: () => Promise<void> }> => {
  const started = new Map<string, Promise<unknown>>()
  const sockets = new Set<Socket>()
  const startOnce = (name: string) => {
    const begun = started.get(name) ?? starts[name as Name]()
    started.set(name, begun)
    return begun
  }
  const server = createServer((socket) => {
    sockets.add(socket)
    // A worker that was killed is no news.
    socket.on("error", () => {})
    socket.on("close", () => sockets.delete(socket))
    socket.once("data", (name) => {
      startOnce(String(name)).then((value) => ({ value }), (error: unknown) => ({ error: String(error) }))
        .then((outcome) => socket.end(JSON.stringify(outcome)), () => {})
    })
  })
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject)
    server.listen(0, "127.0.0.1", resolve)
  })
  return {
    port: (server.address() as AddressInfo).port,
    close: async () => {
      server.close()
      for (const socket of sockets) socket.destroy()
      // What is just starting has to be up before it can be stopped.
      await Promise.allSettled(started.values())
    }
  }
}

/** The part of the worker. Rejects with what went wrong at the start. */
export const obtain = async (port: number, name: string): Promise<unknown> => {
  const reply = await new Promise<string>((resolve, reject) => {
    let text = ""
    const socket = connect({ host: "127.0.0.1", port }, () => socket.write(name))
    socket.setEncoding("utf8")
    socket.on("data", (chunk: string) => text += chunk)
    socket.on("end", () => resolve(text))
    socket.on("error", reject)
    socket.on("close", () => reject(new Error(`The test run ended before ${name} had started`)))
  })
  const outcome = JSON.parse(reply) as { readonly value?: unknown; readonly error?: string }
  if (outcome.error !== undefined) throw new Error(`${name} did not start: ${outcome.error}`)
  return outcome.value
}
