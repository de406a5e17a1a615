/** What the processes of a trial have in common: their settings, their connection, their pulse. */
import { Effect, Layer } from "effect"
import { JobQueue } from "../../../src/JobQueue.ts"
import { RedisClient } from "../../../src/RedisClient.ts"
import { type HistoryWriter, machineMillis, openHistory } from "./events.ts"

/** What a process is told, as JSON in its first argument. */
export interface ProcessSettings {
  /** Under which it signs what it writes. */
  readonly name: string
  readonly url: string
  readonly namespace: string
  /** Where histories are. */
  readonly directory: string
  readonly seed: number
  readonly leaseMillis: number
  readonly commandTimeoutMillis: number
  /** How many jobs a second a producer enqueues. */
  readonly perSecond: number
  /** How many calls of a producer are under way at once. */
  readonly callers: number
  /** Which part of the jobs takes some milliseconds, and which a good part of a second; the others end at once. */
  readonly slowShare: number
  readonly longShare: number
}

export const settings: ProcessSettings = JSON.parse(process.argv[2] ?? "{}")

export const history: HistoryWriter = openHistory(settings.directory, settings.name)

/** The queue. The server may be down when a process starts. */
export const connection = Layer.provideMerge(
  JobQueue.layer(),
  RedisClient.layer({
    url: settings.url,
    namespace: settings.namespace,
    commandTimeout: settings.commandTimeoutMillis,
    connect: "background"
  })
)

const beatMillis = 100

/** Writes down when the server has not been heard for as long as a renewed lease needs, and when it is again. */
export const pulse = Effect.gen(function*() {
  const client = yield* RedisClient
  const limit = settings.leaseMillis / 3
  let heard = machineMillis()
  let silent = false
  const look = () => {
    if (silent || machineMillis() - heard < limit) return
    silent = true
    history.write({ kind: "silent", since: heard })
  }
  const ask = Effect.matchEffect(client.use("ping", (redis) => redis.ping()), {
    onFailure: () => Effect.void,
    onSuccess: () =>
      Effect.sync(() => {
        look()
        if (silent) history.write({ kind: "reached" })
        silent = false
        heard = machineMillis()
      })
  })
  const always = (effect: Effect.Effect<void>) => Effect.forever(Effect.andThen(effect, Effect.sleep(beatMillis)))
  return yield* Effect.all([always(ask), always(Effect.sync(look))], { concurrency: 2 })
})
