/** The processes of a trial: started, signalled, and every signal written down. */
import { Effect, type Scope } from "effect"
import { NodeProcess } from "../processes.ts"
import type { HistoryWriter } from "./events.ts"
import type { ProcessSettings } from "./process.ts"

export type Role = "producer" | "worker" | "taker"

/** A process of a trial. */
export interface Member {
  readonly name: string
  readonly role: Role
  /** Returns when it works. */
  readonly ready: Effect.Effect<void>
  readonly kill: Effect.Effect<void>
  /** SIGSTOP; `resume` is SIGCONT. Neither does anything to a process that is gone. */
  readonly pause: Effect.Effect<void>
  readonly resume: Effect.Effect<void>
  /** Has it end in good order, and waits until it has. One that does not is killed, and `stuck`. */
  readonly close: Effect.Effect<void>
}

const sources: Record<Role, string> = {
  producer: "trialProducer.ts",
  worker: "trialWorker.ts",
  taker: "trialTaker.ts"
}

/** Starts processes from the sources in `fixtures`, with names that no other process of the trial has. */
export const makeMembers = (fixtures: URL, writer: HistoryWriter) => {
  let started = 0
  return (
    role: Role,
    proxy: number | undefined,
    settings: Omit<ProcessSettings, "name">
  ): Effect.Effect<Member, never, Scope.Scope> =>
    Effect.gen(function*() {
      const name = `${role}-${++started}`
      writer.write({ kind: "joined", process: name, proxy })
      const child = yield* NodeProcess.start(new URL(sources[role], fixtures), {
        args: [JSON.stringify({ ...settings, name })]
      })
      let killed = false
      let closing = false
      let gone = false
      const last = () => child.output.slice(-2000)
      yield* Effect.forkScoped(Effect.andThen(
        child.exit,
        Effect.sync(() => {
          gone = true
          if (!killed && !closing) writer.write({ kind: "died", process: name, output: last() })
        })
      ))
      const unlessGone = (kind: "paused" | "resumed" | "killed", signal: Effect.Effect<unknown>) =>
        Effect.suspend(() => {
          if (gone || killed) return Effect.void
          if (kind === "killed") killed = true
          // Written down before a process is hit and after it is freed: never too late to be a reason.
          const note = Effect.sync(() => writer.write({ kind, process: name }))
          return Effect.asVoid(kind === "resumed" ? Effect.andThen(signal, note) : Effect.andThen(note, signal))
        })
      return {
        name,
        role,
        ready: Effect.asVoid(child.waitForLine("ready", 20_000)),
        kill: unlessGone("killed", child.kill("SIGKILL")),
        pause: unlessGone("paused", child.pause),
        resume: unlessGone("resumed", child.resume),
        close: Effect.suspend(() => {
          if (gone || killed || closing) return Effect.void
          closing = true
          writer.write({ kind: "closing", process: name })
          return Effect.andThen(
            child.send("stop"),
            Effect.timeoutOrElse(child.exit, {
              duration: "15 seconds",
              orElse: () =>
                Effect.andThen(
                  Effect.sync(() => writer.write({ kind: "stuck", process: name, output: last() })),
                  child.kill("SIGKILL")
                )
            })
          )
        })
      }
    })
}
