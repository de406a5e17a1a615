/** Runs scripts by their hash, in full where a server does not know it. */
import { Effect, Result } from "effect"
import type { Redis as Client } from "ioredis"
import { RedisError } from "../RedisError.ts"
import type { ScriptValue } from "../RedisScript.ts"
import type { RunScript } from "../UseOptions.ts"
import type { Deployment } from "./deployment.ts"
import { patienceMillis } from "./duration.ts"
import { slotOf as hashSlotOf } from "./hashSlot.ts"
import { isReplicaWait, markFor, type ReplicaWait, requireReplicas, sendAndWait } from "./replicas.ts"
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

/** `script`, by way of `use`. */
export const scriptsThrough = (
  { commandTimeoutMillis, offsetMillis, serverOf, slotOf, use, useDurable }: ScriptRunnerOptions
): RunScript => {
  const inRound = makeRounds()
  return (script, values, options) => {
    const text = script.text(offsetMillis())
    const args = layOut(script, values)
    const keyCount = script.keys.length
    const slot = slotOf?.(script.name, args.slice(0, keyCount) as ReadonlyArray<string>, (i) => script.keys[i]!)
    if (slot instanceof RedisError) return Effect.fail(slot)
    const byHash = (client: Client) => client.evalsha(text.sha, keyCount, ...args)
    const inFull = (client: Client) => client.eval(text.lua, keyCount, ...args)
    const waiting = <A>(send: (client: Client) => Promise<A>, replicas: ReplicaWait) =>
      sendAndWait(send, replicas, String(args[0]), slot !== undefined)
    const replicas = options?.replicas
    if (replicas !== undefined && !isReplicaWait(replicas)) {
      return Effect.fail(
        notPossible(script.name, "its replicas are not from 1 to 1,000, within 1 to 60,000 milliseconds")
      )
    }
    if (replicas !== undefined && !hasRoomForMark(args.slice(0, keyCount)[0])) {
      return Effect.fail(
        notPossible(script.name, "to wait for replicas takes a key, whose braces are a hash tag if it has any")
      )
    }
    const reply = replicas === undefined
      ? use(script.name, byHash, options, { slot, sendInFull: inFull })
      : Effect.flatMap(useDurable, (use) => {
        const patience = patienceMillis(options?.timeout ?? commandTimeoutMillis)
        // A WAIT holds up its connection, so that what came behind would wait once for each before it.
        return inRound(
          (slot === undefined ? undefined : serverOf?.(slot)) ?? "",
          Effect.flatMap(
            use(script.name, waiting(byHash, replicas), { ...options, timeout: patience + replicas.millis }, {
              slot,
              sendInFull: waiting(inFull, replicas),
              firstCounts: true
            }),
            (replies) => requireReplicas(script.name, replicas, replies)
          ),
          patience,
          () => heldUp(script.name)
        )
      })
    return Effect.flatMap(reply, (reply) => {
      const decoded = script.decode(reply)
      return Result.isSuccess(decoded)
        ? Effect.succeed(decoded.success)
        : Effect.fail(unknownReply(script.name, decoded.failure.message))
    })
  }
}

const heldUp = (command: string) =>
  new RedisError({
    command,
    reason: "timeout",
    outcome: "NotSent",
    detail: "earlier writes wait for replicas longer than its deadline"
  })
const hasRoomForMark = (key: ScriptValue | undefined): boolean =>
  typeof key === "string" && hashSlotOf(markFor(key)) === hashSlotOf(key)

const unknownReply = (command: string, detail: string) =>
  new RedisError({ command, reason: "reply", outcome: "Rejected", detail: `its reply has an unknown shape: ${detail}` })
