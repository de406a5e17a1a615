/** Ports that nothing else is likely to take while a server on them is down. */
import { createServer } from "node:net"

// The system hands out ports from 32768 up (macOS: 49152) to outgoing connections and to listen(0). A server that comes
// back there could find its port taken, and a client that keeps knocking on a dead port there can connect to itself.
// Above 20000 are the bus ports of these servers in cluster mode (port + 10000).
const first = 10_000
const perWorker = 500
const workers = 20

const given = new Set<number>()

/** A port on 127.0.0.1 that is free now, and that no other test worker and no earlier call was given. */
export const freePort = async (): Promise<number> => {
  const base = first + (Number(process.env["VITEST_POOL_ID"] ?? 0) % workers) * perWorker
  for (let tries = 0; tries < perWorker; tries++) {
    const port = base + Math.floor(Math.random() * perWorker)
    if (!given.has(port) && await isFree(port)) {
      given.add(port)
      return port
    }
  }
  throw new Error(`No free port from ${base} to ${base + perWorker - 1}`)
}

const isFree = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const server = createServer()
    server.once("error", () => resolve(false))
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)))
  })
