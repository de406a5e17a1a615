/** Runs commands on one ioredis client: waits for the connection, keeps deadlines, and knows what was written. */
import { Effect } from "effect"
import type { Redis as Client } from "ioredis"
import { RedisError } from "../RedisError.ts"
import { connectError, isBroken, isReply, toRedisError } from "./failure.ts"

type Send = (client: Client) => Promise<unknown>

/** One command, or several that one function sends, from the caller's request to its outcome. */
interface Call {
  readonly command: string
  readonly send: Send
  /** Sent instead when the server does not know the script's hash. */
  readonly sendInFull: Send | undefined
  readonly repeatable: boolean
  readonly deadline: number
  readonly resume: (effect: Effect.Effect<any, RedisError>) => void
  /** It was handed to the client, and what came of it is not known yet. */
  sent: boolean
  /** How many commands the client had written when it refused all of this call's; -1 when it took one. */
  refusedAt: number
  /** An earlier attempt may have run. */
  mayHaveRun: boolean
  /** How much had been heard from the server when it was sent: tells a silent connection from a slow command. */
  heardBefore: number
  /** The server's last word, when that was to come back later. */
  rejection: RedisError | undefined
}

/** How a call differs from an ordinary one. */
export interface CallOptions {
  /** Running it twice is as good as once, so that it may be sent again after a lost reply. */
  readonly repeatable?: boolean | undefined
  /** The deadline, when it is not the connection's. */
  readonly timeoutMillis?: number | undefined
  readonly sendInFull?: Send | undefined
}

/** The calls of one connection. */
export interface Calls {
  /** Runs `send` when the connection is ready, within the deadline. */
  readonly run: <A>(
    command: string,
    send: (client: Client) => Promise<A>,
    options?: CallOptions
  ) => Effect.Effect<A, RedisError>
  /** Lets waiting calls go. */
  readonly open: () => void
  /** Holds calls back until the connection is ready again. */
  readonly hold: () => void
  /** Fails whatever waits, is under way, or comes later. Tells whether something was under way. */
  readonly close: () => boolean
}

export interface CallsOptions {
  readonly defaultTimeoutMillis: number
  /** One caller has the connection for itself and may block it: a call that is given up takes the connection along. */
  readonly exclusive: boolean
  /** Why there is no connection, when there is none. */
  readonly lastFailure: () => unknown
}

const passingPauseMillis = 50
/** So many bytes do not wait for more: the server works on them while the rest of the turn goes on. */
const worthAWrite = 2048
/** The longest that a timer can wait, nearly; longer deadlines are cut to it. */
const maxTimerMillis = 2 ** 31 - 10

const closedError = () => new Error("Connection is closed.")

/** Calls on `client`. */
export const makeCalls = (client: Client, options: CallsOptions): Calls => {
  // In order of their start; a Set keeps it, and drops any in constant time.
  const pending = new Set<Call>()
  const waiting = new Set<Call>()
  let timer: NodeJS.Timeout | undefined
  let timerDue = Infinity
  let ready = false
  let closed = false
  let made = 0
  let written = 0
  let heard = 0
  let corked: Client["stream"] | undefined

  const sendCommand = client.sendCommand.bind(client)
  client.sendCommand = (command, stream) => {
    if (corked === undefined) cork()
    const reply = sendCommand(command, stream)
    if (corked !== undefined && corked.writableLength > worthAWrite) uncork()
    made++
    // With the offline queue off, ioredis either writes a command or rejects it on the spot.
    if (!(command as unknown as { readonly isSettled: boolean }).isSettled) written++
    return reply
  }

  // All that is sent in one turn goes in one write: a system call for each command would cost more than all the rest.
  const cork = (): void => {
    const { stream } = client
    if (stream === undefined || stream.destroyed) return
    corked = stream
    stream.cork()
    process.nextTick(uncork)
  }

  const uncork = (): void => {
    corked?.uncork()
    corked = undefined
  }

  const forget = (call: Call): boolean => {
    waiting.delete(call)
    return pending.delete(call)
  }

  const end = (call: Call, error: RedisError): void => {
    if (forget(call)) call.resume(Effect.fail(error))
  }

  const isUnknown = (call: Call): boolean => call.mayHaveRun || (call.sent && call.refusedAt !== written)

  const fail = (call: Call, cause: unknown): void => end(call, toRedisError(call.command, cause, isUnknown(call)))

  const start = (call: Call): void => {
    if (closed) return fail(call, closedError())
    if (ready) return transmit(call, call.send)
    waiting.add(call)
  }

  const transmit = (call: Call, send: Send): void => {
    const madeBefore = made
    const writtenBefore = written
    call.heardBefore = heard
    call.sent = true
    // What `send` sends later, no one watches: unless all was refused, it may have run.
    call.refusedAt = -1
    try {
      const reply = send(client)
      if (written === writtenBefore && made > madeBefore) call.refusedAt = written
      reply.then((value) => {
        if (forget(call)) call.resume(Effect.succeed(value))
      }, (cause: unknown) => onFailure(call, cause))
    } catch (cause) {
      if (written === writtenBefore) call.refusedAt = written
      fail(call, cause)
    }
  }

  const onFailure = (call: Call, cause: unknown): void => {
    if (!pending.has(call)) return
    if (isReply(cause)) return onRejection(call, cause)
    // The client holds calls back as soon as it sees the break, which may be after it failed its commands.
    if (isBroken(cause) && !closed && (call.repeatable || !isUnknown(call))) return later(call, 0)
    fail(call, cause)
  }

  const onRejection = (call: Call, cause: Error): void => {
    if (call.sendInFull !== undefined && cause.message.startsWith("NOSCRIPT")) return transmit(call, call.sendInFull)
    const error = toRedisError(call.command, cause, true)
    if (!isPassing(cause.message)) return end(call, error)
    // It has surely not run, and may soon succeed.
    call.sent = false
    call.rejection = error
    later(call, passingPauseMillis)
  }

  const later = (call: Call, millis: number): void => {
    call.mayHaveRun = isUnknown(call)
    call.sent = false
    setTimeout(() => {
      if (pending.has(call)) start(call)
    }, millis)
  }

  // One timer for all calls: a timer for each would cost more than the rest of the call.
  const arm = (due: number, now: number): void => {
    if (due >= timerDue) return
    clearTimeout(timer)
    timerDue = due
    // After a long pause of this process timers come first, though replies lie there to be read: those first.
    timer = setTimeout(() => setImmediate(expire), due - now + 1)
  }

  const expire = (): void => {
    timerDue = Infinity
    const now = performance.now()
    let next = Infinity
    for (const call of [...pending]) {
      if (call.deadline > now) next = Math.min(next, call.deadline)
      else endLate(call)
    }
    if (next !== Infinity) arm(next, now)
  }

  const endLate = (call: Call): void => {
    const unknown = isUnknown(call)
    if (call.sent) {
      // Not a byte since it was sent: the connection is dead but not closed, and only replacing it helps.
      if (options.exclusive || (ready && heard === call.heardBefore)) client.stream.destroy()
    } else if (call.rejection !== undefined && !unknown) {
      return end(call, call.rejection)
    } else {
      const cause = options.lastFailure()
      if (cause !== undefined) return end(call, connectError(call.command, cause, unknown ? "Unknown" : "NotSent"))
    }
    end(
      call,
      new RedisError({
        command: call.command,
        reason: call.sent ? "timeout" : "connection",
        outcome: unknown ? "Unknown" : "NotSent",
        detail: call.sent ? "no reply within the deadline" : "no connection within the deadline"
      })
    )
  }

  const abandon = (call: Call): void => {
    // What was sent cannot be called back. A blocking command would go on and take something for nobody.
    if (forget(call) && call.sent && options.exclusive) client.stream.destroy()
  }

  return {
    run: (command, send, callOptions) =>
      Effect.callback((resume) => {
        const now = performance.now()
        const call: Call = {
          command,
          send,
          sendInFull: callOptions?.sendInFull,
          repeatable: callOptions?.repeatable === true,
          deadline: now + Math.min(callOptions?.timeoutMillis ?? options.defaultTimeoutMillis, maxTimerMillis),
          resume,
          sent: false,
          refusedAt: -1,
          mayHaveRun: false,
          heardBefore: 0,
          rejection: undefined
        }
        pending.add(call)
        arm(call.deadline, now)
        start(call)
        return Effect.sync(() => abandon(call))
      }),
    open: () => {
      ready = true
      client.stream.on("data", () => heard++)
      const calls = [...waiting]
      waiting.clear()
      for (const call of calls) start(call)
    },
    hold: () => {
      ready = false
    },
    close: () => {
      closed = true
      ready = false
      clearTimeout(timer)
      let underWay = false
      for (const call of [...pending]) {
        underWay ||= call.sent
        fail(call, closedError())
      }
      return underWay
    }
  }
}

/** After these replies a command has surely not run, and may soon succeed. */
const isPassing = (message: string): boolean => /^(LOADING|MASTERDOWN|CLUSTERDOWN|TRYAGAIN)\b/.test(message)
