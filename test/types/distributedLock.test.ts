/** What is inferred of locks. */
import { Context, Effect, type Option, type Scope } from "effect"
import { describe, expectTypeOf, it } from "vitest"
import type { DistributedLock } from "../../src/DistributedLock.ts"
import type { Lease, LockLost, LockStatus, LockTaken, LockTimeout } from "../../src/Lease.ts"
import type { InvalidInput, RedisError } from "../../src/RedisError.ts"

class Mailer extends Context.Service<Mailer, { readonly send: Effect.Effect<number, "bounced"> }>()("test/Mailer") {}

declare const locks: DistributedLock["Service"]

const send = Effect.flatMap(Mailer, ({ send }) => send)

type Failed = LockTimeout | LockLost | RedisError | InvalidInput

describe("DistributedLock's types", () => {
  it("withLock adds its errors to the work's, and keeps the rest", () => {
    const piped = () => send.pipe(locks.withLock("key", { ttl: "10 seconds", wait: "1 second" }))
    expectTypeOf(piped).returns.toEqualTypeOf<Effect.Effect<number, "bounced" | Failed, Mailer>>()
    const withLease = () => locks.withLock("key")((lease) => Effect.map(send, (sent) => [lease.token, sent] as const))
    expectTypeOf(withLease).returns.toEqualTypeOf<
      Effect.Effect<readonly [number, number], "bounced" | Failed, Mailer>
    >()
  })

  it("acquire and tryAcquire need a scope, and fail each in its way", () => {
    expectTypeOf(() => locks.acquire("key")).returns.toEqualTypeOf<
      Effect.Effect<Lease, LockTimeout | RedisError | InvalidInput, Scope.Scope>
    >()
    expectTypeOf(() => locks.tryAcquire("key")).returns.toEqualTypeOf<
      Effect.Effect<Lease, LockTaken | RedisError | InvalidInput, Scope.Scope>
    >()
    // @ts-expect-error it does not wait
    const waiting = () => locks.tryAcquire("key", { wait: "1 second" })
    expectTypeOf(waiting).toBeFunction()
  })

  it("what runs under a lease can lose it", () => {
    const run = (lease: Lease) => lease.run(send)
    expectTypeOf(run).returns.toEqualTypeOf<Effect.Effect<number, "bounced" | LockLost, Mailer>>()
    expectTypeOf<Lease["lost"]>().toEqualTypeOf<Effect.Effect<never, LockLost>>()
  })

  it("inspect may find nobody", () => {
    expectTypeOf(() => locks.inspect("key")).returns.toEqualTypeOf<
      Effect.Effect<Option.Option<LockStatus>, RedisError | InvalidInput>
    >()
  })

  it("a guarded write takes a lease, or a token that came from elsewhere", () => {
    const written = (lease: Lease) => locks.guardedSet(lease, "name", "text")
    expectTypeOf(written).returns.toEqualTypeOf<Effect.Effect<void, LockLost | RedisError | InvalidInput>>()
    const sent = () => locks.guardedSet({ key: "key", token: 1 }, "name", "text")
    expectTypeOf(sent).returns.toEqualTypeOf<Effect.Effect<void, LockLost | RedisError | InvalidInput>>()
  })
})
