/** Processes that produce and work, what is done to them and to the server, and the history of it all. */
import { Effect, Layer, type Scope, Semaphore } from "effect"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { JobQueue } from "../../../src/JobQueue.ts"
import { RedisClient } from "../../../src/RedisClient.ts"
import { type Direction, Proxy } from "../proxy.ts"
import { RedisServer } from "../redisServer.ts"
import { type History, openHistory, readHistory } from "./events.ts"
import { makeMembers, type Member, type Role } from "./members.ts"
import { readOutcomes, runEmpty, watch } from "./outcomes.ts"
import type { ProcessSettings } from "./process.ts"

export interface TrialOptions {
  readonly leaseMillis: number
  readonly commandTimeoutMillis: number
  /** How many ways there are to the server, each with troubles of its own. */
  readonly proxies: number
  /** Where the sources of the processes are: a changed copy shows whether the checker sees it. Default: here. */
  readonly fixtures?: URL | undefined
}

/** How a process of a trial differs from others. */
export interface MemberOptions
  extends Partial<Pick<ProcessSettings, "seed" | "perSecond" | "callers" | "slowShare" | "longShare">>
{
  /** Which proxy is between it and the server. Default: none. */
  readonly proxy?: number | undefined
}

/** Now; when the next reply comes; or when so many more bytes have passed. */
export type Cut = "now" | "reply" | { readonly afterBytes: number; readonly direction: Direction }

export interface Trial {
  /** Where the history is written. */
  readonly directory: string
  /** What has been written so far. */
  readonly history: () => History
  readonly start: (role: Role, options?: MemberOptions) => Effect.Effect<Member, never, Scope.Scope>
  /** Cuts the connections through a proxy, or the first one on which it comes to that. */
  readonly cut: (proxy: number, how: Cut) => Effect.Effect<void>
  /** For some time nothing gets through a proxy. What is held arrives afterwards, what is swallowed never. */
  readonly block: (
    proxy: number,
    how: "hold" | "swallow",
    direction: Direction | "both",
    millis: number
  ) => Effect.Effect<void>
  /** Kills the server, and starts it again with its data. */
  readonly restartServer: (downMillis: number) => Effect.Effect<void>
  /** Ends all troubles, lets the queues run empty for so long at most, ends all processes, and reads all outcomes. */
  readonly settle: (withinMillis: number) => Effect.Effect<History>
}

const namespace = "trial"

/** A server that writes each command down before it replies, and nobody on it yet. */
export const startTrial = (options: TrialOptions): Effect.Effect<Trial, never, Scope.Scope> =>
  Effect.gen(function*() {
    const directory = yield* Effect.acquireRelease(
      Effect.promise(() => mkdtemp(join(tmpdir(), "history-"))),
      (directory) => Effect.promise(() => rm(directory, { recursive: true, force: true }))
    )
    const writer = yield* Effect.acquireRelease(
      Effect.sync(() => openHistory(directory, "trial")),
      ({ close }) => Effect.sync(close)
    )
    const server = yield* RedisServer.start({ persistence: "aof-always" })
    const proxies = yield* Effect.forEach(Array.from({ length: options.proxies }), () => Proxy.start(server))
    // Straight to the server: what is done to the others is not done to the one who watches them.
    const own = yield* Effect.orDie(
      Layer.build(Layer.provideMerge(JobQueue.layer(), RedisClient.layer({ url: server.url, namespace })))
    )
    yield* Effect.forkScoped(Effect.provide(watch(writer), own))

    const startMember = makeMembers(options.fixtures ?? new URL("../fixtures/", import.meta.url), writer)
    const members: Array<Member> = []
    const all = (role: (role: Role) => boolean, what: "resume" | "close") =>
      Effect.forEach(members.filter((member) => role(member.role)), (member) => member[what], {
        concurrency: "unbounded",
        discard: true
      })
    let outages = 0
    const outage = <A>(proxy: number | undefined, during: Effect.Effect<A>) =>
      Effect.suspend(() => {
        const number = outages++
        writer.write({ kind: "outage", number, proxy })
        return Effect.ensuring(during, Effect.sync(() => writer.write({ kind: "restored", number })))
      })
    const restarting = yield* Semaphore.make(1)
    const history = () => readHistory(directory)

    return {
      directory,
      history,
      start: (role, { proxy, ...rest } = {}) =>
        Effect.tap(
          startMember(role, proxy, {
            seed: 1,
            perSecond: 200,
            callers: 4,
            slowShare: 0.4,
            longShare: 0.02,
            ...rest,
            url: proxy === undefined ? server.url : proxies[proxy]!.url,
            namespace,
            directory,
            leaseMillis: options.leaseMillis,
            commandTimeoutMillis: options.commandTimeoutMillis
          }),
          (member) => Effect.sync(() => members.push(member))
        ),
      cut: (proxy, how) =>
        Effect.suspend(() => {
          writer.write({ kind: "cut", proxy, how: typeof how === "string" ? how : "bytes" })
          const { cut, cutAfterBytes, dropNextReply } = proxies[proxy]!
          if (how === "now") return cut
          return how === "reply" ? dropNextReply("evalsha") : cutAfterBytes(how.afterBytes, how.direction)
        }),
      block: (proxy, how, direction, millis) => {
        const { delay, restore, swallow } = proxies[proxy]!
        const block = how === "hold" ? delay(Infinity, direction) : swallow(direction)
        return outage(proxy, block.pipe(Effect.andThen(Effect.sleep(millis)), Effect.ensuring(restore)))
      },
      restartServer: (downMillis) =>
        restarting.withPermits(1)(outage(
          undefined,
          server.kill().pipe(Effect.andThen(Effect.sleep(downMillis)), Effect.andThen(server.restart))
        )),
      settle: (withinMillis) =>
        Effect.gen(function*() {
          yield* Effect.forEach(proxies, ({ restore }) => restore)
          yield* all(() => true, "resume")
          yield* all((role) => role === "producer", "close")
          yield* runEmpty(withinMillis)
          yield* all((role) => role !== "producer", "close")
          yield* readOutcomes(history(), writer)
          return history()
        }).pipe(Effect.provide(own), Effect.orDie)
    }
  })
