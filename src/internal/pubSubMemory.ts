/** Publish and subscribe within this process. */
import { Effect, Result } from "effect"
import { parseGlob } from "./glob.ts"
import type { Listener, Subscribe, SubscriptionKind } from "./subscriber.ts"

/** A topic with those who listen to it. */
interface Topic {
  readonly matches: (channel: string) => boolean
  readonly listeners: Set<Listener>
}

/** Delivers to the listeners of a channel and of the patterns that it matches; counts these, as Redis does. */
export const makeMemory = () => {
  const topics = { channel: new Map<string, Topic>(), pattern: new Map<string, Topic>() }
  // Sharded channels are like others here; their names tell them apart.
  const topicsOf = (kind: SubscriptionKind) => topics[kind === "pattern" ? "pattern" : "channel"]

  const deliver = ({ listeners }: Topic, message: string, channel: string) => {
    for (const { onMessage } of listeners) onMessage(message, channel)
    return 1
  }

  const publish = (channel: string, message: string): number => {
    const topic = topics.channel.get(channel)
    let receivers = topic === undefined ? 0 : deliver(topic, message, channel)
    for (const topic of topics.pattern.values()) {
      if (topic.matches(channel)) receivers += deliver(topic, message, channel)
    }
    return receivers
  }

  const subscribe: Subscribe = (kind, name, listener) =>
    Effect.acquireRelease(
      Effect.sync(() => {
        let topic = topicsOf(kind).get(name)
        if (topic === undefined) {
          topic = { matches: kind === "pattern" ? matching(name) : () => true, listeners: new Set() }
          topicsOf(kind).set(name, topic)
        }
        topic.listeners.add(listener)
        return topic
      }),
      ({ listeners }) =>
        Effect.sync(() => {
          listeners.delete(listener)
          if (listeners.size === 0) topicsOf(kind).delete(name)
        })
    ).pipe(Effect.asVoid)

  return { publish, subscribe }
}

const matching = (pattern: string) => {
  const glob = parseGlob(pattern)
  return Result.isSuccess(glob) ? glob.success.matches : () => false
}
