/** redlock 5 on one server, with its default options, but for ever patient. */
import { Redis } from "ioredis"
import { default as Redlock } from "redlock"

/** @type {import("../support/case.ts").Open<import("../lock.ts").LockAdapter>} */
export const open = async (port) => {
  const client = new Redis({ port })
  const redlock = new Redlock([client], { retryCount: -1 })
  return {
    contend: (contenders, goOn, work) =>
      Promise.all(Array.from({ length: contenders }, async (_, contender) => {
        while (goOn()) {
          const lock = await redlock.acquire(["bench"], 30_000)
          await work?.(contender)
          await lock.release()
        }
      })),
    close: () => redlock.quit()
  }
}
