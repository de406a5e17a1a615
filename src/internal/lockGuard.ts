/** Texts that only the latest holder of a lock may write: whoever has a smaller token comes too late. */
import { Effect, Option, Result } from "effect"
import { type GuardOptions, type Lease, LockLost } from "../Lease.ts"
import type { InvalidInput, RedisError } from "../RedisError.ts"
import { requireName } from "./keys.ts"
import type { LockEngine, Place } from "./lockEngine.ts"
import { checkGuarded, checkGuardTtl } from "./lockRequest.ts"

/** `guardedSet` and `guardedGet`, where `placeOf` tells. */
export const makeGuard = (
  engine: LockEngine,
  placeOf: (name: string, shared: boolean | undefined) => Place
) => {
  const place = (name: string, options: Pick<GuardOptions, "shared"> | undefined) =>
    Effect.map(requireName("guarded name", name), (checked) => placeOf(checked, options?.shared))

  return {
    set: (
      { key, token }: Pick<Lease, "key" | "token">,
      name: string,
      value: string,
      options: GuardOptions | undefined
    ): Effect.Effect<void, LockLost | RedisError | InvalidInput> =>
      Effect.gen(function*() {
        const where = yield* place(name, options)
        const ttl = yield* Effect.fromResult(
          options?.ttl === undefined ? Result.succeed(0) : checkGuardTtl(options.ttl)
        )
        yield* Effect.fromResult(checkGuarded(token, value))
        if (yield* engine.write(where, token, value, ttl)) return
        return yield* new LockLost({ key, reason: "superseded" })
      }),
    get: (
      name: string,
      options: Pick<GuardOptions, "shared"> | undefined
    ): Effect.Effect<Option.Option<string>, RedisError | InvalidInput> =>
      Effect.map(Effect.flatMap(place(name, options), engine.read), Option.fromNullOr)
  }
}
