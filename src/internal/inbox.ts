/** A bounded buffer between whoever delivers, who never waits, and a Stream. */
import { type Array, Cause, Effect } from "effect"

/** What happens to a message that finds the buffer full. */
export type BufferStrategy = "dropOldest" | "dropNewest" | "fail"

export interface InboxOptions<Item, E> {
  /** How many messages it holds. */
  readonly size: number
  readonly strategy: BufferStrategy
  /** Items that take no room and are never dropped. Of several in a row only the last one is kept. */
  readonly isNotice: (item: Item) => boolean
  /** The item that stands for `count` dropped ones, where they were. */
  readonly dropped: (count: number) => Item
  /** What a full buffer fails with when the strategy is `fail`. */
  readonly overflow: () => E
}

export interface Inbox<Item, E> {
  readonly offer: (item: Item) => void
  /** No more is taken in. What is there can still be taken; then comes `error`, or the end when there is none. */
  readonly end: (error?: E) => void
  /** All that is there. Waits when there is nothing. */
  readonly take: Effect.Effect<Array.NonEmptyReadonlyArray<Item>, E | Cause.Done>
}

/** Makes an empty inbox. `onDrop` is called for each message that is dropped. */
export const makeInbox = <Item, E>(options: InboxOptions<Item, E>, onDrop: () => void): Inbox<Item, E> => {
  let items: globalThis.Array<Item> = []
  // Where the items begin: moving them up for each one that is dropped would cost as much as there are.
  let first = 0
  let messages = 0
  let dropped = 0
  let passed: Item | undefined
  let ended: Effect.Effect<never, E | Cause.Done> | undefined
  let waking = false
  type Resume = (taken: Effect.Effect<Array.NonEmptyReadonlyArray<Item>, E | Cause.Done>) => void
  const waiters = new Set<Resume>()

  const dropOldest = () => {
    for (;;) {
      const item = items[first++]!
      if (!options.isNotice(item)) break
      passed = item
    }
    if (first > options.size) {
      items = items.slice(first)
      first = 0
    }
  }

  const drain = (): Array.NonEmptyReadonlyArray<Item> | undefined => {
    const missed = dropped > 0 ? [options.dropped(dropped)] : []
    const kept = first === 0 ? items : items.slice(first)
    const all = missed.length === 0 && passed === undefined
      ? kept
      : options.strategy === "dropOldest"
      ? [...(passed === undefined ? [] : [passed]), ...missed, ...kept]
      : [...kept, ...missed]
    items = []
    first = messages = dropped = 0
    passed = undefined
    return all.length > 0 ? all as [Item, ...globalThis.Array<Item>] : undefined
  }

  const now = (): Effect.Effect<Array.NonEmptyReadonlyArray<Item>, E | Cause.Done> | undefined => {
    const all = drain()
    return all === undefined ? ended : Effect.succeed(all)
  }

  const wake = () => {
    waking = false
    for (const resume of waiters) {
      const taken = now()
      if (taken === undefined) return
      waiters.delete(resume)
      resume(taken)
    }
  }

  // Not at once: what came in one packet is then taken in one go, and the taker does not run within the caller.
  const wakeSoon = () => {
    if (waking || waiters.size === 0) return
    waking = true
    queueMicrotask(wake)
  }

  const end = (error?: E) => {
    ended ??= error === undefined ? Cause.done() : Effect.fail(error)
    wakeSoon()
  }

  return {
    end,
    offer: (item) => {
      if (ended !== undefined) return
      if (options.isNotice(item)) {
        if (items.length > first && options.isNotice(items[items.length - 1]!)) items.pop()
      } else if (messages < options.size) messages++
      else {
        onDrop()
        if (options.strategy === "fail") return end(options.overflow())
        dropped++
        if (options.strategy === "dropNewest") return
        dropOldest()
      }
      items.push(item)
      wakeSoon()
    },
    take: Effect.suspend(() =>
      now() ?? Effect.callback((resume) => {
        waiters.add(resume)
        return Effect.sync(() => waiters.delete(resume))
      })
    )
  }
}
