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
    const refuse = (error: RedisError) => reject.call(command, error)
    const { name } = command
    if (exclusive.has(name)) refuse(notHere(name))
    const slot = name === "publish"
      ? publishSlot
      : commonSlot(name, command.getKeys() as ReadonlyArray<string | Buffer>)
    if (slot instanceof RedisError) refuse(slot)
    if (exclusive.has(name) || slot instanceof RedisError) return command.promise
    const sending = current
    if (sending !== undefined) sending.commands++
    let settle: (value: unknown) => void = () => {}
    command.promise.then((value) => settle(value), () => {})
    start({
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
    return command.promise
  }
  client.sendCommand = sendCommand as Client["sendCommand"]

  const run = <A>(command: string, send: (client: Client) => Promise<A>, options?: CallOptions) =>
    Effect.callback<A, RedisError>((resume) => {
      const millis = options?.timeoutMillis ?? defaultTimeoutMillis
      const sending: Sending = {
        repeatable: options?.repeatable === true,
        deadline: performance.now() + millis,
        fromReplica: options?.fromReplica === true,
        commands: 0
      }
      const fail = (cause: unknown) => {
        clearTimeout(timer)
        resume(Effect.fail(failureOf(command, cause, sending.commands)))
      }
      const late = () =>
        fail(
          new RedisError({ command, reason: "timeout", outcome: "Unknown", detail: "no reply within the deadline" })
        )
      const timer = setTimeout(late, Math.min(millis + graceMillis, 2 ** 31 - 1))
      current = sending
      try {
        send(client).then((value) => {
          clearTimeout(timer)
          resume(Effect.succeed(value))
        }, fail)
      } catch (cause) {
        fail(cause)
      } finally {
        current = undefined
      }
      return Effect.sync(() => clearTimeout(timer))
    })

  return { client, run }
}

const failureOf = (command: string, cause: unknown, commands: number): RedisError => {
  const error = toRedisError(command, cause, commands > 0)
  const { detail, outcome, reason } = error
  // Of several, others may have run.
  return commands > 1 && outcome === "NotSent"
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
