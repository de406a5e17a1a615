/** ioredis: one connection publishes, one is subscribed. */
import { Redis } from "ioredis"
import type { PubSubAdapter } from "../pubsub.ts"
import type { Open } from "../support/case.ts"

export const open: Open<PubSubAdapter> = async (port) => {
  const publisher = new Redis({ port })
  const subscriber = new Redis({ port })
  return {
    subscribe: (onMessage) => {
      subscriber.on("message", (_channel, text) => onMessage(JSON.parse(text)))
      return subscriber.subscribe("statuses")
    },
    publish: (messages) =>
      Promise.all(messages.map((message) => publisher.publish("statuses", JSON.stringify(message)))),
    close: () => Promise.all([publisher.quit(), subscriber.quit()])
  }
}
