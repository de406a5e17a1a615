/** The fastest way to pass a token on: who has it pushes it to a list, and BLPOP wakes who has waited longest. */
import { Redis } from "ioredis"
import type { LockAdapter } from "../lock.ts"
import type { Open } from "../support/case.ts"

export const open: Open<LockAdapter> = async (port) => {
  const free = new Redis({ port })
  await free.rpush("bench", "token")
  return {
    contend: (contenders, goOn, work) =>
      Promise.all(Array.from({ length: contenders }, async (_, contender) => {
        const client = new Redis({ port })
        while (goOn()) {
          await client.blpop("bench", 0)
          await work?.(contender)
          await free.rpush("bench", "token")
        }
        await client.quit()
      })),
    close: () => free.quit()
  }
}
