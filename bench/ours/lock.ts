/** Our lock, with default options. */
import { Effect, Layer, ManagedRuntime } from "effect"
import { DistributedLock, DistributedLockLive, Redis } from "effect-redis-kit"
import type { LockAdapter } from "../lock.ts"
import type { Open } from "../support/case.ts"

export const open: Open<LockAdapter> = async (port) => {
  const runtime = ManagedRuntime.make(
    Layer.provideMerge(DistributedLockLive, Redis.layer({ url: `redis://127.0.0.1:${port}` }))
  )
  const locks = await runtime.runPromise(DistributedLock)
  return {
    contend: (contenders, goOn, work) =>
      runtime.runPromise(
        Effect.forEach(
          Array.from({ length: contenders }, (_, contender) => contender),
          (contender) =>
            Effect.gen(function*() {
              const held = work === undefined ? Effect.void : Effect.promise(() => work(contender))
              while (goOn()) yield* held.pipe(locks.withLock("bench", { wait: "1 minute" }))
            }),
          { concurrency: "unbounded", discard: true }
        )
      ),
    close: () => runtime.dispose()
  }
}
