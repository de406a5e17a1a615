/** Loops that send what a source yields, as fibers. */
import { Effect } from "effect"

/** `callers` fibers: each sends, waits, and takes the next item, until there is none. */
export const fromCallers = <A, B, E, R>(
  callers: number,
  next: () => A | undefined,
  send: (item: A) => Effect.Effect<B, E, R>
): Effect.Effect<void, E, R> => {
  const caller = Effect.gen(function*() {
    for (let item = next(); item !== undefined; item = next()) yield* send(item)
  })
  return Effect.all(Array.from({ length: callers }, () => caller), { concurrency: "unbounded", discard: true })
}
