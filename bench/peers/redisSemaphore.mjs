/** The Mutex of redis-semaphore, with its default options, but for ever patient. */
import { Redis } from "ioredis"
import { Mutex } from "redis-semaphore"

/** @type {import("../support/case.ts").Open<import("../lock.ts").LockAdapter>} */
export const open = async (port) => {
  const client = new Redis({ port })
  return {
    contend: (contenders, goOn, work) =>
      Promise.all(Array.from({ length: contenders }, async (_, contender) => {
        while (goOn()) {
          const mutex = new Mutex(client, "bench", { acquireTimeout: 60_000 })
          await mutex.acquire()
          await work?.(contender)
          await mutex.release()
        }
      })),
    close: () => client.quit()
  }
}
