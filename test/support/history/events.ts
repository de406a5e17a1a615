/** What happened to jobs, and to those who worked on them: an event a line, in a file of each process' own. */
import { closeSync, openSync, readdirSync, readFileSync, writeSync } from "node:fs"
import { join } from "node:path"

/** A job as its producer thinks of it. The mark tells jobs apart where an id would hide that one was stored twice. */
export interface AskedJob {
  readonly mark: string
  /** Of the producer's own choice; otherwise the queue makes one, which only the acknowledgement tells. */
  readonly id: string | undefined
  /** Whether it was to wait before it might run. */
  readonly delayed: boolean
  /** How it ends when all goes as the payload says, and in which attempt. */
  readonly ends: "completed" | "failed"
  readonly attempt: number
}

/** One run of a job. */
export interface Run {
  /** The process. */
  readonly by: string
  readonly token: number
  readonly attempt: number
}

/** What a producer writes. */
export type ProducerEvent =
  | { readonly kind: "asked"; readonly queue: string; readonly jobs: ReadonlyArray<AskedJob> }
  | { readonly kind: "enqueued"; readonly marks: ReadonlyArray<string>; readonly ids: ReadonlyArray<string> }
  | {
    readonly kind: "refused"
    readonly marks: ReadonlyArray<string>
    readonly outcome: "NotSent" | "Unknown" | "Rejected"
  }

/** What whoever runs jobs writes. */
export type WorkerEvent =
  | {
    readonly kind: "started"
    readonly queue: string
    readonly id: string
    readonly mark: string
    readonly token: number
    readonly attempt: number
    /** How long it is to take. */
    readonly millis: number
  }
  | {
    readonly kind: "finished"
    readonly id: string
    readonly token: number
    readonly how: "success" | "failure" | "interrupted"
  }
  /** The queue has told the holder that its report, which ends the job, was taken. */
  | { readonly kind: "heard"; readonly id: string; readonly token: number }
  /** Nothing has come back from the server since then; `reached` when something does. */
  | { readonly kind: "silent"; readonly since: number }
  | { readonly kind: "reached" }

/** What was done to processes, the server and connections. */
export type FaultEvent =
  /** A process that reaches the server through this proxy; without one, directly. */
  | { readonly kind: "joined"; readonly process: string; readonly proxy: number | undefined }
  | { readonly kind: "killed" | "paused" | "resumed" | "closing"; readonly process: string }
  /** It ended by itself; or did not when it was told to. With the last of what it has printed. */
  | { readonly kind: "died" | "stuck"; readonly process: string; readonly output: string }
  /** The connections through this proxy, or some of them, were cut, or are about to be. */
  | { readonly kind: "cut"; readonly proxy: number; readonly how: string }
  /** From here to its end nobody gets through: on this proxy, or nowhere as the server is down. */
  | { readonly kind: "outage"; readonly number: number; readonly proxy: number | undefined }
  | { readonly kind: "restored"; readonly number: number }

/** What the queue says: live, and when all is over. */
export type QueueEvent =
  /** `stalled`: its holder was given up. */
  | { readonly kind: "told"; readonly id: string; readonly how: "completed" | "failed" | "cancelled" | "stalled" }
  | {
    readonly kind: "outcome"
    readonly queue: string
    readonly id: string
    /** Of dead letters, which keep their payload. */
    readonly mark: string | undefined
    /** `open`: it has not ended; `unknown`: the queue knows nothing of it. */
    readonly state: "completed" | "failed" | "crashed" | "open" | "unknown" | "other"
    /** Whose result or error was recorded. */
    readonly run: Run | undefined
    readonly detail: string
  }
  | {
    readonly kind: "counts"
    readonly queue: string
    readonly waiting: number
    readonly delayed: number
    readonly active: number
    readonly failed: number
    readonly finished: number
  }

export type HistoryEvent = ProducerEvent | WorkerEvent | FaultEvent | QueueEvent

/** An event, with who wrote it down, and when in milliseconds by a clock that all processes of the machine share. */
export type Entry = HistoryEvent & { readonly by: string; readonly at: number }

export type History = ReadonlyArray<Entry>

export const machineMillis = (): number => Number(process.hrtime.bigint() / 1000n) / 1000

/** A history that survives its process: each event is with the system before `write` returns. */
export interface HistoryWriter {
  readonly write: (event: HistoryEvent) => void
  readonly close: () => void
}

export const openHistory = (directory: string, by: string): HistoryWriter => {
  const file = openSync(join(directory, `${by}.jsonl`), "a")
  return {
    write: (event) => {
      writeSync(file, `${JSON.stringify({ at: machineMillis(), by, ...event })}\n`)
    },
    close: () => closeSync(file)
  }
}

/** What all processes have written into `directory`, in the order in which it happened. */
export const readHistory = (directory: string): History =>
  readdirSync(directory)
    .filter((name) => name.endsWith(".jsonl"))
    .flatMap((name) =>
      readFileSync(join(directory, name), "utf8")
        .split("\n")
        // Behind the last newline is nothing, or what a killed process did not finish writing.
        .slice(0, -1)
        .map((line): Entry => JSON.parse(line))
    )
    .toSorted((a, b) => a.at - b.at)
