/** Child processes that end with the test process, however that one ends. */
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process"
import { once } from "node:events"
import { readFile } from "node:fs/promises"
import { Socket } from "node:net"
import { setTimeout as sleep } from "node:timers/promises"

/** How a process ended: one of the two is set. */
export interface Exited {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export interface Child {
  readonly pid: number
  readonly process: ChildProcessWithoutNullStreams
  /** Settles when the process is gone. */
  readonly exited: Promise<Exited>
  /** Settles when its output was read to the end, too. */
  readonly closed: Promise<unknown>
  readonly hasExited: () => boolean
  /** Sends `signal` and waits for the end. Rejects when the process does not die of it in 10 seconds. */
  readonly kill: (signal: NodeJS.Signals) => Promise<Exited>
  /** SIGSTOP, and waits until the process has really stopped. */
  readonly pause: () => Promise<void>
  /** SIGCONT. */
  readonly resume: () => void
}

/** Starts a program. `directory`, when given, is removed if the test process dies before the child does. */
export const spawnChild = async (command: string, args: ReadonlyArray<string>, options?: {
  readonly cwd?: string
  readonly env?: NodeJS.ProcessEnv
  readonly directory?: string
}): Promise<Child> => {
  const child = spawn(command, args, { cwd: options?.cwd, env: options?.env ?? process.env, stdio: "pipe" })
  const pid = child.pid
  if (pid === undefined) {
    const [cause] = await once(child, "error")
    throw new Error(`${command} could not be started`, { cause })
  }
  // Writing to the stdin of a child that has died is an error event, which would take the test process with it.
  child.stdin.on("error", () => {})
  const letGo = guard(pid, options?.directory)
  const closed = once(child, "close")
  const exited = once(child, "exit").then(([code, signal]): Exited => {
    letGo()
    return { code, signal }
  })
  const hasExited = () => child.exitCode !== null || child.signalCode !== null

  return {
    pid,
    process: child,
    exited,
    closed,
    hasExited,
    kill: async (signal) => {
      if (hasExited()) return exited
      process.kill(pid, signal)
      const late = new AbortController()
      const end = await Promise.race([exited, sleep(10_000, undefined, { signal: late.signal })])
      late.abort()
      if (end === undefined) throw new Error(`${command} (pid ${pid}) lives on 10 seconds after ${signal}`)
      return end
    },
    pause: async () => {
      process.kill(pid, "SIGSTOP")
      // The signal is only pending when `kill` returns; a command sent at once could still be served.
      // Where there is no /proc we take that chance.
      const state = async () => /\) (\w) /.exec(await readFile(`/proc/${pid}/stat`, "utf8").catch(() => ""))?.[1] ?? "T"
      while (!hasExited() && await state() !== "T") await sleep(1)
    },
    resume: () => {
      process.kill(pid, "SIGCONT")
    }
  }
}

/**
 * A shell that waits for our end of its stdin to close, and then kills. An exit handler would not do: vitest kills
 * workers that hang, and a killed process runs no handlers. It ignores ^C, which reaches the whole process group.
 */
const guard = (pid: number, directory = "") => {
  const script = `trap "" INT TERM HUP; read -r done || { kill -9 "$0"; [ -z "$1" ] || rm -rf "$1"; }`
  const shell = spawn("sh", ["-c", script, String(pid), directory], { stdio: ["pipe", "ignore", "ignore"] })
  shell.on("error", () => {})
  shell.stdin.on("error", () => {})
  shell.unref()
  if (shell.stdin instanceof Socket) shell.stdin.unref()
  return () => {
    shell.stdin.end("done\n")
  }
}
