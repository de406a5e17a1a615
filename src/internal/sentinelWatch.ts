/** Hears from Sentinels when another server has become the master. */
import { Effect, type Scope } from "effect"
import type { Redis as Client } from "ioredis"
import { isReply } from "./failure.ts"
import type { Place, WatchMaster } from "./place.ts"
import type { SentinelOptions } from "./sentinel.ts"

const retryMillis = 2000

/**
 * Listens to all Sentinels that are configured. In a planned failover, the old master takes writes, which are lost then,
 * until the Sentinels make a replica of it some seconds later: its connections have to leave it before.
 */
export const watchSentinels = (
  options: SentinelOptions,
  find: (signal: AbortSignal) => Promise<Place>
): Effect.Effect<WatchMaster, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(Effect.sync(() => start(options, find)), ({ stop }) => Effect.sync(stop)),
    ({ watch }) => watch
  )

const start = (
  { makeClient, name, nodes }: SentinelOptions,
  find: (signal: AbortSignal) => Promise<Place>
) => {
  const watchers = new Set<(master: Place) => void>()
  const clients = new Set<Client>()
  const retries = new Set<NodeJS.Timeout>()
  const open = new AbortController()

  /** One Sentinel may be behind the others: most of them have to say so. */
  const look = (): void => {
    find(open.signal).then((master) => {
      for (const watcher of [...watchers]) watcher(master)
    }, () => {
      // A connection that needs the answer asks for itself.
    })
  }

  const listen = (place: Place, missed: boolean): void => {
    const client = makeClient(place)
    let refused = false
    clients.add(client)
    client.on("error", () => {
      // It is tried again.
    })
    client.on("message", (_, text: string) => {
      if (text.startsWith(`${name} `)) look()
    })
    client.on("end", () => {
      clients.delete(client)
      if (open.signal.aborted || refused) return
      const retry = setTimeout(() => {
        retries.delete(retry)
        listen(place, true)
      }, retryMillis)
      retries.add(retry)
    })
    client.connect().then(() => client.subscribe("+switch-master")).then(() => {
      if (missed) look()
    }, (cause: unknown) => {
      // Whom the Sentinel's ACL forbids it, it will not allow later; all else may pass.
      refused = isReply(cause) && cause.message.startsWith("NOPERM")
      client.disconnect()
    })
  }
  for (const place of nodes) listen(place, false)

  return {
    watch: (watcher: (master: Place) => void) => {
      watchers.add(watcher)
      return () => {
        watchers.delete(watcher)
      }
    },
    stop: () => {
      open.abort()
      for (const retry of retries) clearTimeout(retry)
      for (const client of clients) {
        client.disconnect()
        client.stream?.destroy()
      }
    }
  }
}
