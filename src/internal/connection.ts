/** Keeps one ioredis client connected: when it is ready, why it is not, and how it ends. */
import { Effect, type Random, type Scope } from "effect"
import type { Redis as Client } from "ioredis"
import { RedisError, type RedisErrorReason } from "../RedisError.ts"
import type { Calls, Routing } from "./call.ts"
import { makeCalls } from "./calls.ts"
import { close, concealed } from "./client.ts"
import type { Locate } from "./endpoint.ts"
import { connectError, isReadOnly, isReply } from "./failure.ts"
import type { Place, WatchMaster } from "./place.ts"

/** What happens to a connection. `epoch` counts how often it became ready. */
export type ConnectionState =
  | { readonly _tag: "Connecting"; readonly epoch: number }
  | { readonly _tag: "Ready"; readonly epoch: number }
  | { readonly _tag: "Disconnected"; readonly epoch: number; readonly error: RedisError | undefined }
  | { readonly _tag: "Closed"; readonly epoch: number }

/** A client with its calls. */
export interface Connection {
  readonly client: Client
  readonly calls: Calls
  /** Succeeds when the connection is ready; fails with what is wrong, at the latest after the connect timeout. */
  readonly connected: Effect.Effect<void, RedisError>
  /** `connected`, which waits for a server that is away as long as a call does. */
  readonly eventually: Effect.Effect<void, RedisError>
}

export interface ConnectionOptions {
  readonly connectTimeoutMillis: number
  readonly commandTimeoutMillis: number
  /** One caller has the connection for itself and may block it. */
  readonly exclusive: boolean
  readonly random: typeof Random.Random["Service"]
  readonly onState: (state: ConnectionState) => void
  /** Finds out, before each attempt, where the server is or who we are. */
  readonly locate?: Locate | undefined
  /** Whether only a master will do, so that the server is asked what it is. */
  readonly wantsMaster?: boolean | undefined
  /** Tells when another server may be the master. */
  readonly watchMaster?: WatchMaster | undefined
  /** What calls do when the server sends them elsewhere. */
  readonly routing?: Routing | undefined
  /** Told when the server sends a call elsewhere that cannot follow. */
  readonly misdirected?: (() => void) | undefined
}

const loadingPauseMillis = 100

interface State {
  epoch: number
  ready: boolean
  closing: boolean
  /** Aborted when it closes. */
  readonly open: AbortController
  /** Attempts to connect since the connection was last ready. */
  attempts: number
  /** The server refused part of the handshake, like the database: the connection is not the one that was asked for. */
  refused: boolean
  /** The last thing that went wrong since the connection was last ready. */
  failure: unknown
  /** The master as it was named since we last asked where to connect. */
  named: Place | undefined
  readonly watchers: Set<() => void>
  retry: NodeJS.Timeout | undefined
}

/** Starts to connect a client, and closes it with the scope, whatever state it is in then. */
export const connect = (
  makeClient: () => Client,
  options: ConnectionOptions
): Effect.Effect<Connection, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => start(makeClient, options)),
    ({ calls, client, state, unwatch }) =>
      Effect.promise(async () => {
        state.closing = true
        state.open.abort()
        unwatch?.()
        clearTimeout(state.retry)
        // A blocking command may take as long as it likes to reply, and nobody waits for that any more.
        const blocked = calls.close() && options.exclusive
        await close(client, !blocked)
        options.onState({ _tag: "Closed", epoch: state.epoch })
      })
  ).pipe(
    Effect.map(({ calls, client, state }): Connection => ({
      client,
      calls,
      connected: awaitReady(state, options.connectTimeoutMillis, mending),
      eventually: awaitReady(state, options.commandTimeoutMillis, passing)
    }))
  )

const backoffMillis = (attempt: number, random: typeof Random.Random["Service"]): number =>
  Math.round(Math.min(3000, 50 * 2 ** Math.min(attempt, 10)) * (0.5 + random.nextDoubleUnsafe() / 2))

const start = (makeClient: () => Client, options: ConnectionOptions) => {
  const state: State = {
    epoch: 0,
    ready: false,
    closing: false,
    open: new AbortController(),
    attempts: 0,
    refused: false,
    failure: undefined,
    named: undefined,
    watchers: new Set(),
    retry: undefined
  }
  const client = concealed(makeClient())
  // A demoted server keeps its connections; only a new one finds its way to the master. Many commands may hear of it.
  client.options.reconnectOnError = (error) => isReadOnly(error.message) && !client.stream.writableEnded
  const calls = makeCalls(client, {
    defaultTimeoutMillis: options.commandTimeoutMillis,
    exclusive: options.exclusive,
    lastFailure: () => state.failure,
    routing: options.routing,
    misdirected: options.misdirected,
    wantsMaster: options.wantsMaster
  })
  const changed = () => {
    for (const watcher of [...state.watchers]) watcher()
  }
  const disconnected = () => {
    const error = state.failure === undefined ? undefined : connectError("connect", state.failure, "NotSent")
    options.onState({ _tag: "Disconnected", epoch: state.epoch, error })
    changed()
  }

  // ioredis would go back to where it was before, as who it was before.
  const tryToConnect = (): void => {
    state.named = undefined
    const open = () => {
      client.connect().catch(() => {
        // the error event has told why
      })
    }
    if (options.locate === undefined) return open()
    options.locate(state.open.signal).then((found) => {
      if (state.closing) return
      Object.assign(client.options, found)
      open()
    }, (cause: unknown) => {
      if (state.closing) return
      state.failure = cause
      disconnected()
      retryLater()
    })
  }
  // Counted until a connection is ready: the server may turn one away as soon as it is there.
  const retryLater = (): void => {
    state.retry = setTimeout(retryNow, backoffMillis(state.attempts++, options.random))
  }
  const retryNow = (): void => {
    if (state.retry === undefined) return
    clearTimeout(state.retry)
    state.retry = undefined
    tryToConnect()
  }

  // ioredis limits the time that a socket takes to open. The server may be silent, or dead, after that, too.
  let patience: NodeJS.Timeout | undefined
  const expectAnswer = () => {
    const { stream } = client
    clearTimeout(patience)
    patience = setTimeout(() => {
      state.failure = new Error("timed out: the server does not answer")
      stream.destroy()
    }, options.connectTimeoutMillis)
  }

  client.on("connecting", () => {
    state.refused = false
    if (!state.closing) options.onState({ _tag: "Connecting", epoch: state.epoch })
  })
  client.on("connect", expectAnswer)
  // The only place where ioredis tells the real reason: its promises just say that the connection closed.
  client.on("error", (cause: unknown) => {
    state.failure = !state.ready && isReset(cause) ? closedAtOnce() : cause
    state.refused ||= isReply(cause)
    changed()
  })
  client.on("close", () => {
    calls.hold()
    clearTimeout(patience)
    if (state.closing) return
    if (!state.ready) state.failure ??= closedAtOnce()
    state.ready = false
    disconnected()
  })
  client.on("end", () => {
    if (!state.closing) retryLater()
  })
  client.on("ready", () => {
    const { stream } = client
    const stale = () => client.stream !== stream || client.status !== "ready" || state.closing
    if (state.refused) return stream.destroy()
    const pass = () => {
      if (stale()) return
      // It handed over while we were on our way to it, and may take writes for some seconds yet.
      if (options.wantsMaster === true && state.named !== undefined && !isAt(state.named)) {
        state.failure = notTheMaster("another server is the master now")
        changed()
        return stream.destroy()
      }
      clearTimeout(patience)
      state.ready = true
      state.attempts = 0
      state.failure = undefined
      state.epoch++
      calls.open()
      options.onState({ _tag: "Ready", epoch: state.epoch })
      changed()
    }
    // ioredis would ask with INFO, which an ACL may forbid; a PING tells as well whether the server is loading.
    const check = (): void => {
      if (stale()) return
      const ask = options.wantsMaster === true ? client.role() : client.ping()
      ask.then((answer) => {
        if (!Array.isArray(answer) || answer[0] === "master" || stale()) return pass()
        state.failure = notTheMaster(
          "the server that the Sentinels name is a replica; another one is about to be the master"
        )
        changed()
        stream.destroy()
      }, (cause: unknown) => {
        if (!isReply(cause) || stale()) return
        const { reason } = connectError("connect", cause, "Rejected")
        // What else it says, each command will hear for itself.
        if (reason !== "loading" && reason !== "authentication") return pass()
        state.failure = cause
        changed()
        if (reason === "authentication") return stream.destroy()
        expectAnswer()
        setTimeout(check, loadingPauseMillis)
      })
    }
    check()
  })
  const isAt = ({ host, port }: Place) => client.options.host === host && client.options.port === port
  const unwatch = options.watchMaster?.((master) => {
    state.named = master
    if (state.closing || isAt(master)) return
    if (!state.ready) return retryNow()
    // In a Cluster, a replica serves subscriptions as well.
    if (options.wantsMaster !== true) return
    // What is under way may end; what comes now waits for the new master.
    calls.hold()
    state.failure = notTheMaster("another server is the master now")
    void close(client, true)
  })
  tryToConnect()
  return { client, calls, state, unwatch }
}

const notTheMaster = (detail: string) =>
  new RedisError({
    command: "connect",
    reason: "read-only",
    outcome: "NotSent",
    detail
  })

const closedAtOnce = () => new Error("the server closed the connection at once; does it expect TLS (REDIS_TLS)?")

const isReset = (cause: unknown) => cause instanceof Error && /ECONNRESET|EPIPE/.test(cause.message)

// A server loads its data, or is made the master, in a while.
const mending: ReadonlySet<RedisErrorReason> = new Set(["loading", "read-only"])
// One that is away may come back, or another takes its place; a refusal is for the caller to mend.
const passing: ReadonlySet<RedisErrorReason> = new Set([...mending, "connection", "timeout", "cluster-down"])

const awaitReady = (
  state: State,
  withinMillis: number,
  waitsFor: ReadonlySet<RedisErrorReason>
): Effect.Effect<void, RedisError> =>
  Effect.callback((resume) => {
    const done = (effect: Effect.Effect<void, RedisError>) => {
      clearTimeout(timer)
      state.watchers.delete(look)
      resume(effect)
    }
    const fail = (cause: unknown) =>
      done(Effect.fail(connectError("connect", cause, isReply(cause) ? "Rejected" : "NotSent")))
    const look = () => {
      if (state.ready) return done(Effect.void)
      if (state.failure === undefined) return
      const { reason } = connectError("connect", state.failure, "NotSent")
      if (!waitsFor.has(reason)) fail(state.failure)
    }
    const timer = setTimeout(
      () => fail(state.failure ?? new Error("timed out: the server does not answer")),
      withinMillis
    )
    state.watchers.add(look)
    look()
    return Effect.sync(() => done(Effect.void))
  })
