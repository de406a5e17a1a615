/** One call, from the caller's request to its outcome, and what calls are made of. */
import { Effect } from "effect"
import type { Command, Redis as Client } from "ioredis"
import type { RedisError } from "../RedisError.ts"

/** Sends one command, or several. */
export type Send = (client: Client) => Promise<unknown>

/** How a call differs from an ordinary one. */
export interface CallOptions {
  /** Running it twice is as good as once, so that it may be sent again after a lost reply. */
  readonly repeatable?: boolean | undefined
  /** The deadline, when it is not the connection's. */
  readonly timeoutMillis?: number | undefined
  /** Sent instead when the server does not know the script's hash. */
  readonly sendInFull?: Send | undefined
  /** Of several commands the first is the one that counts: where that was refused, the call may be made again. */
  readonly firstCounts?: boolean | undefined
  /** In a Cluster: the hash slot it is about. */
  readonly slot?: number | undefined
  /** In a Cluster: it only reads, and an old value will do. */
  readonly fromReplica?: boolean | undefined
  /** In a Cluster: it means the server that it is given to, and no other. */
  readonly pinned?: boolean | undefined
}

/** What a caller asks for. */
export interface CallRequest extends CallOptions {
  readonly command: string
  readonly send: Send
  /** Told the outcome once, unless the call is abandoned first. */
  readonly done: (error: RedisError | undefined, value: unknown) => void
}

/** A call that is under way: it belongs to one connection at a time. */
export interface Call {
  readonly request: CallRequest
  /** When to give up, by `performance.now()`. */
  readonly deadline: number
  owner: Calls | undefined
  /** It was handed to the client, and what came of it is not known yet. */
  sent: boolean
  /** How many commands the client had written when it refused all of this call's; -1 when it took one. */
  refusedAt: number
  /** How many commands it sent at once, the last time, and the first of them. */
  commands: number
  first: Command | undefined
  /** An earlier attempt may have run. */
  mayHaveRun: boolean
  /** How much had been heard from the server when it was sent: tells a silent connection from a slow command. */
  heardBefore: number
  /** The server's last word, when that was to come back later. */
  rejection: RedisError | undefined
  /** Whether the next server is to serve a slot that it is only about to take over. */
  asking: boolean
  /** How often it was sent from server to server, without a pause. */
  redirections: number
}

/** The calls of one connection. */
export interface Calls {
  /** Runs `send` when the connection is ready, within the deadline. */
  readonly run: <A>(
    command: string,
    send: (client: Client) => Promise<A>,
    options?: CallOptions
  ) => Effect.Effect<A, RedisError>
  /** `run`, for callers that are no effects. Yields how to abandon it. */
  readonly start: (request: CallRequest) => () => void
  /** Takes over a call of another connection. */
  readonly adopt: (call: Call) => void
  readonly abandon: (call: Call) => void
  /** Lets waiting calls go. */
  readonly open: () => void
  /** Holds calls back until the connection is ready again. */
  readonly hold: () => void
  /** Hands what need not be done here to whichever connection is in charge now. Tells how many calls stay. */
  readonly reroute: () => number
  /** Fails whatever waits, is under way, or comes later. Tells whether something was under way. */
  readonly close: () => boolean
}

/** Which connection is in charge of what, where there are several, as one of them has it. */
export interface Routing {
  /** Undefined leaves a call where it is. */
  readonly ownerOf: (request: CallRequest) => Calls | undefined
  /** The server at `address` is in charge of `slot` now, says this one. */
  readonly moved: (slot: number, address: string) => Calls
  /** The server at `address` is about to take a slot over, says this one. */
  readonly asked: (address: string) => Calls
  /** A server does not know who is in charge, or is not what it should be. */
  readonly outdated: () => void
}

/** A call that has not begun. */
export const makeCall = (request: CallRequest, deadline: number): Call => ({
  request,
  deadline,
  owner: undefined,
  sent: false,
  refusedAt: -1,
  commands: 0,
  first: undefined,
  mayHaveRun: false,
  heardBefore: 0,
  rejection: undefined,
  asking: false,
  redirections: 0
})

/** `start` as an effect. */
export const running =
  (start: Calls["start"]): Calls["run"] =>
  <A>(command: string, send: (client: Client) => Promise<A>, options?: CallOptions) =>
    Effect.callback<A, RedisError>((resume) => {
      const abandon = start({
        command,
        send,
        done: (error, value) => resume(error === undefined ? Effect.succeed(value as A) : Effect.fail(error)),
        repeatable: options?.repeatable,
        timeoutMillis: options?.timeoutMillis,
        sendInFull: options?.sendInFull,
        firstCounts: options?.firstCounts,
        slot: options?.slot,
        fromReplica: options?.fromReplica,
        pinned: options?.pinned
      })
      return Effect.sync(abandon)
    })
