/** Runs scripts by their hash, in full where a server does not know it. */
import { Effect, Result } from "effect"
import type { Redis as Client } from "ioredis"
import { RedisError } from "../RedisError.ts"
import type { ScriptValue } from "../RedisScript.ts"
import type { RunScript, ScriptOptions } from "../UseOptions.ts"
import type { Deployment } from "./deployment.ts"
import { patienceMillis } from "./duration.ts"
import { slotOf as hashSlotOf } from "./hashSlot.ts"
import { checkReplicas, markFor, type ReplicaOptions, requireReplicas, sendAndWait } from "./replicas.ts"
import { makeRounds } from "./rounds.ts"
import { layOut } from "./scriptArguments.ts"
import { notPossible, type Using } from "./using.ts"

export interface ScriptRunnerOptions {
  readonly use: Using
  /** `use`, for writes that wait for replicas. */
  readonly useDurable: Effect.Effect<Using>
  readonly slotOf: Deployment["slotOf"]
  /** The server that has a slot, by its name, in a Cluster. */
  readonly serverOf: ((slot: number) => string | undefined) | undefined
  /** By how much the server's time is moved. */
  readonly offsetMillis: () => number
  readonly commandTimeoutMillis: number
}

/** A script's call, ready to be sent. */
interface Prepared {
  readonly name: string
  readonly keys: ReadonlyArray<ScriptValue>
  readonly slot: number | undefined
  readonly byHash: (client: Client) => Promise<unknown>
  readonly inFull: (client: Client) => Promise<unknown>
}

/** `script`, by way of `use`. */
export const scriptsThrough = (options: ScriptRunnerOptions): RunScript => {
  const { offsetMillis, slotOf, use } = options
  const runAndWait = waitingForReplicas(options)
  return (script, values, options) => {
    const text = script.text(offsetMillis())
    const args = layOut(script, values)
    const keyCount = script.keys.length
    const slot = slotOf?.(script.name, args.slice(0, keyCount) as ReadonlyArray<string>, (i) => script.keys[i]!)
    if (slot instanceof RedisError) return Effect.fail(slot)
    const byHash = (client: Client) => client.evalsha(text.sha, keyCount, ...args)
    const inFull = (client: Client) => client.eval(text.lua, keyCount, ...args)
    const reply = options?.replicas === undefined
      ? use(script.name, byHash, options, { slot, sendInFull: inFull })
      : runAndWait(
        { name: script.name, keys: args.slice(0, keyCount), slot, byHash, inFull },
        options,
        options.replicas
      )
    return Effect.flatMap(reply, (reply) => {
      const decoded = script.decode(reply)
      return Result.isSuccess(decoded)
        ? Effect.succeed(decoded.success)
        : Effect.fail(unknownReply(script.name, decoded.failure.message))
    })
  }
}

const waitingForReplicas = ({ commandTimeoutMillis, serverOf, useDurable }: ScriptRunnerOptions) => {
  const inRound = makeRounds()
  return (
    { byHash, inFull, keys: [key], name, slot }: Prepared,
    options: ScriptOptions,
    replicas: ReplicaOptions
  ): Effect.Effect<unknown, RedisError> => {
    const checked = checkReplicas(replicas)
    if (Result.isFailure(checked)) return Effect.fail(notPossible(name, checked.failure.message))
    const wait = checked.success
    if (typeof key !== "string" || hashSlotOf(markFor(key)) !== hashSlotOf(key)) {
      const problem = "to wait for replicas takes a key, whose braces are a hash tag if it has any"
      return Effect.fail(notPossible(name, problem))
    }
    const waiting = (send: Prepared["byHash"]) => sendAndWait(send, wait, key, slot !== undefined)
    const patience = patienceMillis(options.timeout ?? commandTimeoutMillis)
    const run = Effect.flatMap(
      useDurable,
      (use) =>
        use(name, waiting(byHash), { ...options, timeout: patience + wait.within }, {
          slot,
          sendInFull: waiting(inFull),
          firstCounts: true
        })
    )
    // A WAIT holds up its connection, so that what came behind would wait once for each before it.
    return inRound(
      (slot === undefined ? undefined : serverOf?.(slot)) ?? "",
      Effect.flatMap(run, (replies) => requireReplicas(name, wait, replies)),
      patience,
      () => heldUp(name)
    )
  }
}

const heldUp = (command: string) =>
  new RedisError({
    command,
    reason: "timeout",
    outcome: "NotSent",
    detail: "earlier writes wait for replicas longer than its deadline"
  })

const unknownReply = (command: string, detail: string) =>
  new RedisError({ command, reason: "reply", outcome: "Rejected", detail: `its reply has an unknown shape: ${detail}` })
