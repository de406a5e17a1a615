/** How a job and its outcome are written down. The version comes first; a reader refuses what it does not know. */
import type { Backoff } from "../Job.ts"

/** What a job carries besides its payload, where it differs from its definition. */
export interface JobMeta {
  /** Attempts in all. */
  readonly a?: number
  readonly b?: Backoff
  /** Timeout of an attempt, in milliseconds. */
  readonly t?: number
  /** Tags. */
  readonly g?: ReadonlyArray<string>
  /** The producer's span, as a W3C traceparent. */
  readonly tp?: string
}

/** A job as it waits. */
export interface JobRecord {
  /** How often it has failed. */
  readonly failures: number
  /** How often whoever ran it died. */
  readonly crashes: number
  readonly priority: number
  readonly lifo: boolean
  readonly enqueuedAt: number
  readonly tenant: string | undefined
  readonly name: string
  readonly meta: JobMeta
  /** The payload as JSON text. */
  readonly payload: string
}

const noMeta: JobMeta = {}

const escaped = (text: string | undefined): string => text === undefined ? "" : encodeURIComponent(text)
const unescaped = (text: string): string | undefined => text === "" ? undefined : decodeURIComponent(text)

// Many jobs of one moment are written together, and to spell it takes longer than the rest of a record.
let lastTime = 0
let lastTimeText = "0"
const timeText = (millis: number): string => {
  if (millis !== lastTime) {
    lastTime = millis
    lastTimeText = millis.toString(36)
  }
  return lastTimeText
}

/**
 * `1;crashes;failures;generation;place;enqueuedAt;tenant;name;meta\npayload`. What scripts read or change comes first, at
 * fixed places; `place` is the priority, with an `l` when last in is first out. Short, as there are many: no crashes or
 * failures are nothing, and times stand in base 36. No record of any version holds a NUL. See `queueLua.ts`.
 */
export const writeRecord = (record: Omit<JobRecord, "failures" | "crashes">): string =>
  `1;;;;${record.priority}${record.lifo ? "l" : ""};${timeText(record.enqueuedAt)};${escaped(record.tenant)};${
    escaped(record.name)
  };${record.meta === noMeta ? "" : JSON.stringify(record.meta)}\n${record.payload}`

/** Reads a record; undefined when a newer version, or something else, wrote it. */
export const readRecord = (text: string): JobRecord | undefined => orNone(() => parseRecord(text))

const orNone = <A>(parse: () => A | undefined): A | undefined => {
  try {
    return parse()
  } catch {
    return undefined
  }
}

// One after the other: to split the header costs twice as much, for each job that is claimed.
const parseRecord = (text: string): JobRecord | undefined => {
  const end = text.indexOf("\n")
  if (end < 0 || !text.startsWith("1;")) return undefined
  const failures = text.indexOf(";", 2) + 1
  const generation = text.indexOf(";", failures) + 1
  const place = text.indexOf(";", generation) + 1
  const enqueuedAt = text.indexOf(";", place) + 1
  const tenant = text.indexOf(";", enqueuedAt) + 1
  const name = text.indexOf(";", tenant) + 1
  const meta = text.indexOf(";", name) + 1
  // A field that is missing is found at the beginning, or in the payload.
  if (!(failures < generation && generation < place && place < enqueuedAt && enqueuedAt < tenant && tenant < name)) {
    return undefined
  }
  if (!(name < meta && meta <= end)) return undefined
  const parsed: JobMeta | null = meta === end ? noMeta : JSON.parse(text.slice(meta, end))
  if (typeof parsed !== "object" || parsed === null) return undefined
  return {
    crashes: Number(text.slice(2, failures - 1)),
    failures: Number(text.slice(failures, generation - 1)),
    priority: text.charCodeAt(place) - 48,
    lifo: enqueuedAt - place > 2,
    enqueuedAt: Number.parseInt(text.slice(enqueuedAt, tenant - 1), 36),
    tenant: unescaped(text.slice(tenant, name - 1)),
    name: name === meta - 1 ? "" : decodeURIComponent(text.slice(name, meta - 1)),
    meta: parsed,
    payload: text.slice(end + 1)
  }
}

/** The meta of a job that is just as its definition says; told apart by identity, to write nothing for it. */
export const emptyMeta = noMeta

/** How a job ended. */
export type FinalState = "completed" | "failed" | "cancelled"

/** Why a job failed for good. */
export type FailureReason = "error" | "defect" | "timeout" | "crashed" | "undecodable"

/** A failure as it is stored: of an attempt, or the last one of a dead letter. */
export interface StoredFailure {
  readonly reason: FailureReason
  readonly message: string
  /** The typed error, encoded by the job's error schema as JSON text. */
  readonly error?: string
}

/** How a job ended, as it is stored. */
export interface Outcome {
  readonly state: FinalState
  readonly finishedAt: number
  /** The attempt that ended it; 0 when it never ran. */
  readonly attempt: number
  readonly name: string
  readonly tenant: string | undefined
  /** The result as JSON text, a `StoredFailure`, or why it was cancelled. */
  readonly body: string
}

const stateLetters: Readonly<Record<string, FinalState>> = { c: "completed", f: "failed", x: "cancelled" }

/** The part of an outcome that its holder knows: `attempt;tenant;name\nbody`. Scripts put the rest before it. */
export const writeOutcome = (attempt: number, tenant: string | undefined, name: string, body: string): string =>
  `${attempt};${escaped(tenant)};${escaped(name)}\n${body}`

/**
 * NULs stand between texts that go together, and a free text, like why a job is cancelled, may hold one. JSON texts hold
 * none, nor other control characters: they stay as they are.
 */
export const withoutNul = (text: string): string =>
  text.includes("\0") || text.includes("\u0001")
    ? text.replaceAll("\u0001", "\u00011").replaceAll("\0", "\u00010")
    : text

/** The text that `withoutNul` was given. */
export const withNul = (text: string): string =>
  text.includes("\u0001") ? text.replaceAll("\u00010", "\0").replaceAll("\u00011", "\u0001") : text

/** What is told of an outcome that cannot be read: a newer version, or something else, wrote it. */
export const unknownOutcome = (text: string): Outcome => ({
  state: "failed",
  finishedAt: Number(/^\w;(\d{1,15});/.exec(text)?.[1] ?? 0),
  attempt: 0,
  name: "",
  tenant: undefined,
  body: JSON.stringify({ reason: "undecodable", message: "its outcome is of an unknown version" })
})

/** Reads `state;finishedAt;token;` and what `writeOutcome` wrote. */
export const readOutcome = (text: string): Outcome | undefined => orNone(() => parseOutcome(text))

const parseOutcome = (text: string): Outcome | undefined => {
  const end = text.indexOf("\n")
  const [state, finishedAt, , attempt, tenant, name] = text.slice(0, end).split(";")
  const final = stateLetters[state ?? ""]
  if (end < 0 || final === undefined || name === undefined) return undefined
  return {
    state: final,
    finishedAt: Number(finishedAt),
    attempt: Number(attempt),
    name: decodeURIComponent(name),
    tenant: unescaped(tenant ?? ""),
    body: text.slice(end + 1)
  }
}

/** Reads a failure; what cannot be read is told as it is. */
export const readFailure = (body: string): StoredFailure =>
  orNone(() => {
    const failure: StoredFailure | null = JSON.parse(body)
    return typeof failure?.message === "string" ? failure : undefined
  }) ?? { reason: "defect", message: "the failure was stored in an unknown form" }
