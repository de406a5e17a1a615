/** Runs commands on one ioredis client: waits for the connection, keeps deadlines, and knows what was written. */
import type { Command, Redis as Client } from "ioredis"
import { RedisError } from "../RedisError.ts"
import { type Call, type CallRequest, type Calls, makeCall, type Routing, running, type Send } from "./call.ts"
import { closedError, connectError, isBroken, isReadOnly, isReply, toRedisError } from "./failure.ts"
import { inOneWrite } from "./oneWrite.ts"
import { redirectionOf } from "./redirection.ts"

export interface CallsOptions {
  readonly defaultTimeoutMillis: number
  /** One caller has the connection for itself and may block it: a call that is given up takes the connection along. */
  readonly exclusive: boolean
  /** Why there is no connection, when there is none. */
  readonly lastFailure: () => unknown
  /** Where there are several servers: which of them is in charge. */
  readonly routing?: Routing | undefined
  /** Whether another server is the master when this one takes no writes, and the connection goes there next. */
  readonly wantsMaster?: boolean | undefined
  /** A Cluster's connection that stays where it is: its server has sent a call elsewhere. */
  readonly misdirected?: (() => void) | undefined
}

const passingPauseMillis = 50
/** The longest that a timer can wait, nearly; longer deadlines are cut to it. */
const maxTimerMillis = 2 ** 31 - 10
/** So often a call follows from server to server; then it waits for them to agree. */
const maxRedirections = 5

/** Calls on `client`. */
export const makeCalls = (client: Client, options: CallsOptions): Calls => {
  const { routing } = options
  const misdirected = options.misdirected ?? routing?.outdated
  // In order of their start; a Set keeps it, and drops any in constant time.
  const pending = new Set<Call>()
  const waiting = new Set<Call>()
  let timer: NodeJS.Timeout | undefined
  let timerDue = Infinity
  let ready = false
  let closed = false
  let made = 0
  let first: Command | undefined
  let written = 0
  let heard = 0

  inOneWrite(client, (command, isWritten) => {
    made++
    first ??= command
    if (isWritten) written++
  })

  const forget = (call: Call): boolean => {
    waiting.delete(call)
    return pending.delete(call)
  }

  const end = (call: Call, error: RedisError): void => {
    if (forget(call)) call.request.done(error, undefined)
  }

  const isUnknown = (call: Call): boolean => call.mayHaveRun || (call.sent && call.refusedAt !== written)

  const fail = (call: Call, cause: unknown): void =>
    end(call, toRedisError(call.request.command, cause, isUnknown(call)))

  const begin = (call: Call): void => {
    if (closed) return fail(call, closedError())
    if (ready) return transmit(call, call.request.send)
    waiting.add(call)
  }

  const adopt = (call: Call): void => {
    call.owner = self
    pending.add(call)
    if (!closed) arm(call.deadline, performance.now())
    begin(call)
  }

  /** Whether another connection takes the call, which is not under way here. */
  const handOver = (call: Call, to: Calls | undefined): boolean => {
    if (to === undefined || to === self) return false
    forget(call)
    to.adopt(call)
    return true
  }

  const transmit = (call: Call, send: Send): void => {
    // Its own reply tells nothing.
    if (call.asking) client.asking().catch(() => {})
    first = undefined
    const madeBefore = made
    const writtenBefore = written
    call.heardBefore = heard
    call.sent = true
    // What `send` sends later, no one watches: unless all was refused, it may have run.
    call.refusedAt = -1
    try {
      const reply = send(client)
      call.commands = made - madeBefore
      call.first = first
      if (written === writtenBefore && made > madeBefore) call.refusedAt = written
      reply.then((value) => {
        if (forget(call)) call.request.done(undefined, value)
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
    if (isBroken(cause) && !closed && mayGoOn(call)) return later(call, 0)
    fail(call, cause)
  }

  const mayGoOn = (call: Call): boolean => call.request.repeatable === true || !isUnknown(call)

  const onRejection = (call: Call, cause: Error): void => {
    const { command, repeatable, sendInFull } = call.request
    if (sendInFull !== undefined && cause.message.startsWith("NOSCRIPT")) return transmit(call, sendInFull)
    const error = toRedisError(command, cause, true)
    const isPinned = routing === undefined || call.request.pinned === true
    const told = redirectionOf(error.detail)
    if (isPinned && told !== undefined) misdirected?.()
    const redirection = isPinned ? undefined : told
    const elsewhere = redirection !== undefined || (options.wantsMaster === true && isReadOnly(error.detail))
    if (!elsewhere && !isPassing(error.detail)) return end(call, misdirected === undefined ? inCluster(error) : error)
    if (repeatable !== true && !hasNotRun(call, cause)) return end(call, error)
    // It may soon succeed.
    call.sent = false
    call.rejection = error
    call.asking = false
    if (redirection !== undefined && call.redirections++ < maxRedirections) {
      const { address, kind, slot } = redirection
      if (kind === "moved") {
        if (handOver(call, routing?.moved(slot, address))) return
      } else if (call.commands === 1 || call.request.firstCounts === true) {
        // In a transaction, each command would have to ask; what comes behind one that counts does so itself.
        call.asking = true
        if (handOver(call, routing?.asked(address))) return
        call.asking = false
      }
    }
    // A replica that cannot read now: its master can.
    if (redirection === undefined && call.request.fromReplica === true && handOver(call, ownerNow(call))) return
    call.redirections = 0
    routing?.outdated()
    later(call, passingPauseMillis)
  }

  // Of several commands others may have run, also such as `send` sent after a reply; unless they were one transaction.
  const hasNotRun = ({ commands, first, request }: Call, cause: Error): boolean =>
    cause.message.startsWith("EXECABORT") ||
    ((commands === 1 || request.firstCounts === true) && first?.isResolved !== true)

  /** Whoever is in charge of a call now; of one that was put off, the master. */
  const ownerNow = ({ rejection, request }: Call): Calls | undefined =>
    routing?.ownerOf(rejection === undefined ? request : { ...request, fromReplica: false })

  const later = (call: Call, millis: number): void => {
    call.mayHaveRun = isUnknown(call)
    call.sent = false
    call.asking = false
    setTimeout(() => {
      if (!pending.has(call) || handOver(call, ownerNow(call))) return
      begin(call)
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
      if (cause !== undefined) {
        return end(call, connectError(call.request.command, cause, unknown ? "Unknown" : "NotSent"))
      }
    }
    end(
      call,
      new RedisError({
        command: call.request.command,
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

  const start = (request: CallRequest): () => void => {
    const timeoutMillis = request.timeoutMillis ?? options.defaultTimeoutMillis
    const call = makeCall(request, performance.now() + Math.min(timeoutMillis, maxTimerMillis))
    adopt(call)
    return () => call.owner?.abandon(call)
  }

  const self: Calls = {
    run: running(start),
    start,
    adopt,
    abandon,
    open: () => {
      ready = true
      client.stream.on("data", () => heard++)
      const calls = [...waiting]
      waiting.clear()
      for (const call of calls) begin(call)
    },
    hold: () => {
      ready = false
    },
    reroute: () => {
      for (const call of [...waiting]) handOver(call, ownerNow(call))
      return pending.size
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
  return self
}

/** After these replies a command has surely not run, and may soon succeed. */
const isPassing = (message: string): boolean => /^(LOADING|MASTERDOWN|CLUSTERDOWN|TRYAGAIN)\b/.test(message)

/** Says what to do about a redirection that one server gives, which was not named as a Cluster's. */
const inCluster = (error: RedisError): RedisError => {
  if (redirectionOf(error.detail) === undefined) return error
  const { command, detail, outcome, reason } = error
  const hint = "it is a Cluster's: name it so, with ?cluster=true or REDIS_CLUSTER_NODES"
  return new RedisError({ command, reason, outcome, detail: `${detail}; ${hint}` })
}
