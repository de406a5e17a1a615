/** An ioredis client whose commands each go to the server of a Cluster that is in charge of their keys. */
import { Effect } from "effect"
import type { Command, Redis as Client } from "ioredis"
import { RedisError } from "../RedisError.ts"
import type { CallOptions, Calls } from "./call.ts"
import { toRedisError } from "./failure.ts"
import { commonSlot } from "./hashSlot.ts"

export interface ClusterClient {
  readonly client: Client
  /** Runs a function that sends commands through `client`, each for itself. */
  readonly run: Calls["run"]
}

/** What the commands of one call have in common. */
interface Sending {
  readonly repeatable: boolean
  readonly deadline: number
  readonly fromReplica: boolean
  commands: number
  /** What became of a command that failed. */
  failure: RedisError | undefined
  /** Takes back those that wait. */
  readonly abandon: Array<() => void>
}

/** They mean one connection, of which there are several here. */
const exclusive = new Set([
  "multi",
  "exec",
  "discard",
  "watch",
  "unwatch",
  "select",
  "subscribe",
  "psubscribe",
  "ssubscribe",
  "unsubscribe",
  "punsubscribe",
  "sunsubscribe",
  "monitor",
  "wait",
  "waitaof",
  "asking",
  "readonly",
  "readwrite"
])

/** A command's own word on what went wrong comes before the call's. */
const graceMillis = 20

/**
 * Routes what `client` is told to send by `start`. Any server takes a PUBLISH; always that of `publishSlot` keeps the
 * order of messages.
 */
export const makeClusterClient = (
  client: Client,
  start: Calls["start"],
  defaultTimeoutMillis: number,
  publishSlot: number
): ClusterClient => {
  let current: Sending | undefined

  const sendCommand = (command: Command): Promise<unknown> => {
    const reject = command.reject
    const sending = current
    if (sending !== undefined) sending.commands++
    const refuse = (error: RedisError) => {
      if (sending !== undefined) sending.failure = error
      reject.call(command, error)
    }
    // `call` leaves it as it was written.
    const name = command.name.toLowerCase()
    if (exclusive.has(name)) refuse(notHere(name))
    const slot = name === "publish"
      ? publishSlot
      : commonSlot(name, command.getKeys())
    if (slot instanceof RedisError) refuse(slot)
    if (exclusive.has(name) || slot instanceof RedisError) return command.promise
    let settle: (value: unknown) => void = () => {}
    command.promise.then((value) => settle(value), () => {})
    const abandon = start({
      command: name,
      send: (node) =>
        new Promise((resolve, rejectAttempt) => {
          settle = resolve
          // What one server refuses, another may do: only the last word settles the command.
          command.reject = rejectAttempt
          node.sendCommand(command)
        }),
      done: (error) => {
        if (error !== undefined) refuse(error)
      },
      slot,
      repeatable: sending?.repeatable,
      fromReplica: sending?.fromReplica,
      timeoutMillis: sending === undefined ? undefined : Math.max(sending.deadline - performance.now(), 0)
    })
    sending?.abandon.push(abandon)
    return command.promise
  }
  client.sendCommand = sendCommand

  const run = <A>(command: string, send: (client: Client) => Promise<A>, options?: CallOptions) =>
    Effect.callback<A, RedisError>((resume) => {
      const millis = options?.timeoutMillis ?? defaultTimeoutMillis
      const sending: Sending = {
        repeatable: options?.repeatable === true,
        deadline: performance.now() + millis,
        fromReplica: options?.fromReplica === true,
        commands: 0,
        failure: undefined,
        abandon: []
      }
      const fail = (cause: unknown, unknown: boolean) => {
        clearTimeout(timer)
        resume(Effect.fail(failureOf(command, cause, unknown)))
      }
      const giveUp = () => {
        clearTimeout(timer)
        for (const abandon of sending.abandon) abandon()
      }
      const late = () => {
        giveUp()
        fail(
          new RedisError({ command, reason: "timeout", outcome: "Unknown", detail: "no reply within the deadline" }),
          true
        )
      }
      // After a long pause of this process, too, the commands' own words come first.
      const timer = setTimeout(() => setImmediate(late), Math.min(millis + graceMillis, 2 ** 31 - 1))
      current = sending
      try {
        send(client).then((value) => {
          clearTimeout(timer)
          resume(Effect.succeed(value))
        }, (cause) => fail(cause, sending.commands !== 1 || cause !== sending.failure))
      } catch (cause) {
        fail(cause, sending.commands > 0)
      } finally {
        current = undefined
      }
      return Effect.sync(giveUp)
    })

  return { client, run }
}

/** `unknown` tells whether something may have run besides what failed: of several commands, or of those sent later. */
const failureOf = (command: string, cause: unknown, unknown: boolean): RedisError => {
  const error = toRedisError(command, cause, unknown)
  const { detail, outcome, reason } = error
  return unknown && outcome === "NotSent"
    ? new RedisError({ command, reason, outcome: "Unknown", detail })
    : error
}

const notHere = (command: string) =>
  new RedisError({
    command,
    reason: "reply",
    outcome: "NotSent",
    detail: "it means one connection, and a Cluster has one for each server: " +
      "use multi, pipeline, subscribe or reserve of RedisClient"
  })
