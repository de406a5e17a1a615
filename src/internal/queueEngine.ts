/** The steps of a queue that have to be atomic. All else about jobs is written once, above them. */
import type { Effect, Scope, Stream } from "effect"
import type { RedisError } from "../RedisError.ts"
import type { Probe } from "./probes.ts"
import type { JobRecord, Outcome, StoredFailure } from "./queueRecord.ts"
import type { ReplicaWait } from "./replicas.ts"

/** A job to store. */
export interface NewJob {
  readonly id: string
  /** Whether the id was made for this job, so that only a repeated call can have stored it. */
  readonly idIsNew: boolean
  readonly record: Omit<JobRecord, "failures" | "crashes">
  /** When it may run: in so many milliseconds, or at a time in milliseconds since 1970. */
  readonly due: { readonly inMillis: number } | { readonly atMillis: number } | undefined
}

/** What a holder reports of a job that it claimed. */
export type Report =
  | { readonly kind: "complete"; readonly outcome: string }
  | { readonly kind: "dead"; readonly outcome: string }
  | { readonly kind: "cancelled"; readonly outcome: string }
  /** Counts as a failed attempt. */
  | { readonly kind: "retry"; readonly delayMillis: number; readonly failure: string }
  /** Counts as nothing. Without a delay it goes to the front. */
  | { readonly kind: "release"; readonly delayMillis: number }

/** A report with the claim that it is about, and the job's tenant for the events. */
export interface Acknowledgement {
  readonly id: string
  readonly token: number
  readonly tenant: string | undefined
  readonly report: Report
}

export interface StepRequest {
  /** Whoever claims: the address of its inbox, what tells it from others with the same inbox, and its lease in millis. */
  readonly owner: string
  /** Names this request among its owner's. */
  readonly number: number
  /**
   * Earlier requests whose claims nobody may have heard of: `7` as the reply was lost, `7+` when its owner was to be
   * called and was not. They are told again, and it is called for none of them any more.
   */
  readonly unheard: ReadonlyArray<string>
  readonly reports: ReadonlyArray<Acknowledgement>
  /** Tokens of the claims to keep. */
  readonly extend: ReadonlyArray<number>
  /** How many jobs can start at once. */
  readonly want: number
  /** How many more to claim, that will start in a moment. */
  readonly ahead: number
  /**
   * Whether to claim a job that will be a dead letter if its holder dies once more. Who holds one claims no other: of
   * several, those that are not to blame would die with the one that is.
   */
  readonly takesLastChance: boolean
  readonly leaseMillis: number
  /** When fewer are there than can start: call `owner` as soon as there are more, for so many milliseconds. 0: do not call. */
  readonly sleepMillis: number
}

/** A job that was claimed. Jobs with the same token were claimed together, and share a lease. */
export interface Claim {
  readonly id: string
  readonly token: number
  /** Undefined when it cannot be read. */
  readonly record: JobRecord | undefined
}

export interface StepReply {
  /** Those of unheard requests first. */
  readonly claims: ReadonlyArray<Claim>
  /** Which reports, by their places, came too late: somebody else holds the job, or it is gone. */
  readonly refused: ReadonlyArray<number>
  /** Tokens of claims that could not be kept: their lease had passed. */
  readonly lost: ReadonlyArray<number>
  /** Jobs whose lease was extended although they are to be cancelled, and why. */
  readonly cancels: ReadonlyArray<{ readonly id: string; readonly reason: string }>
  readonly paused: boolean
  /** Whether the owner is called as soon as there are jobs. */
  readonly willCall: boolean
  /** In how many milliseconds a delayed job is due or a lease passes; undefined when there is neither. */
  readonly nextMillis: number | undefined
}

/** Where a job is. */
export type JobState = "waiting" | "delayed" | "active" | "completed" | "failed" | "cancelled"

/** All that is known of a job. */
export interface JobSnapshot {
  readonly id: string
  readonly state: JobState
  readonly record: JobRecord | undefined
  readonly outcome: Outcome | undefined
  /** The last failed attempt of a job that is not finished. */
  readonly failure: StoredFailure | undefined
  /** When a delayed job is due, in milliseconds since 1970. */
  readonly dueAt: number | undefined
}

export interface QueueCounts {
  readonly waiting: number
  readonly delayed: number
  readonly active: number
  /** Dead letters. */
  readonly failed: number
  /** Completed and cancelled jobs whose outcomes are still kept. */
  readonly finished: number
  readonly paused: boolean
  /** When the longest waiting job was enqueued, in milliseconds since 1970. */
  readonly oldestEnqueuedAt: number | undefined
}

/** What an operator can do to one job. */
export type Change =
  | { readonly kind: "cancel"; readonly reason: string }
  | { readonly kind: "remove" }
  | { readonly kind: "retry" }
  | { readonly kind: "promote" }

/** `done`; `requested` of whoever runs it; or `unchanged`, as the job is unknown or not in a state for it. */
export type ChangeReply = "done" | "requested" | "unchanged"

/** States that can be listed. */
export type ListedState = "waiting" | "delayed" | "active" | "failed" | "finished"

/** A transition of one job. */
export type TransitionKind =
  | "queued"
  | "active"
  | "retrying"
  | "released"
  | "stalled"
  | "completed"
  | "failed"
  | "cancelled"
  | "removed"

export interface Transition {
  readonly kind: TransitionKind
  readonly id: string
  readonly tenant: string | undefined
  /** When, by the server's clock, in milliseconds since 1970. */
  readonly at: number
}

/** What comes to an inbox. */
export type Letter =
  /** There may be jobs; for `owner`, or for all. */
  | { readonly kind: "wake"; readonly queue: string; readonly owner: string | undefined }
  /** A job was claimed for `owner`, which waited since its request `number`. */
  | {
    readonly kind: "job"
    readonly queue: string
    readonly owner: string
    readonly number: string
    readonly claim: Claim
  }
  /** Nothing that has not started is to start. */
  | { readonly kind: "pause"; readonly queue: string }
  /** Letters were lost, of whatever kind. */
  | { readonly kind: "gap" }
  | { readonly kind: "cancel"; readonly queue: string; readonly id: string; readonly reason: string }
  | { readonly kind: "finished"; readonly queue: string; readonly id: string }

/** One partition of a queue; of most, the only one. */
export interface QueueStore {
  /** Tells its letters from others'. */
  readonly address: string
  /** How often a job's holder may die before the job is a dead letter. */
  readonly maxCrashes: number
  /** Stores jobs, all or none. Yields for each whether it is new: an id that is still known is left as it is. */
  readonly enqueue: (jobs: ReadonlyArray<NewJob>) => Effect.Effect<ReadonlyArray<boolean>, RedisError>
  /**
   * In one go: takes reports, moves delayed jobs that are due, takes jobs back whose lease has passed, and claims.
   */
  readonly step: (request: StepRequest) => Effect.Effect<StepReply, RedisError>
  /** `owner` is not to be called any more, and what it was given by requests that it has not heard of goes back. */
  readonly leave: (owner: string, unheard: ReadonlyArray<string>) => Effect.Effect<void, RedisError>
  readonly look: (id: string) => Effect.Effect<JobSnapshot | undefined, RedisError>
  /** Asks for a `finished` letter; yields at once what is known of the job. */
  readonly expect: (id: string, owner: string) => Effect.Effect<JobSnapshot | undefined, RedisError>
  readonly change: (id: string, change: Change) => Effect.Effect<ChangeReply, RedisError>
  readonly setPaused: (paused: boolean) => Effect.Effect<void, RedisError>
  readonly counts: Effect.Effect<QueueCounts, RedisError>
  /** A page from `cursor` ("" is the beginning), and where the next one begins. */
  readonly list: (
    state: ListedState,
    cursor: string,
    limit: number
  ) => Effect.Effect<{ readonly jobs: ReadonlyArray<JobSnapshot>; readonly next: string | undefined }, RedisError>
  /** Removes up to a fixed number of waiting (or delayed) jobs; yields how many, -1 for none of those looked at. */
  readonly drainSome: (state: "waiting" | "delayed") => Effect.Effect<number, RedisError>
  /** All transitions from when it returns on, until the scope closes. */
  readonly transitions: Effect.Effect<Stream.Stream<ReadonlyArray<Transition>, RedisError>, RedisError, Scope.Scope>
}

/** Where queues live. */
export interface QueueEngine {
  /** A queue's partition, or the first one: the only one where there are no others. */
  readonly open: (
    queue: { readonly queue: string; readonly shared: boolean; readonly partition?: number | undefined }
  ) => QueueStore
  /** Whether it is far away: a call takes time, and a letter may not arrive. */
  readonly isRemote: boolean
  /** This process' inbox; letters go to every listener until its scope closes. */
  readonly inbox: {
    /** Where letters about `queue` come in. */
    readonly addressOf: (queue: string) => string
    /** Letters about `queue`, by its address, and gaps. */
    readonly listen: (
      queue: string,
      listener: (letter: Letter) => void
    ) => Effect.Effect<void, RedisError, Scope.Scope>
  }
  /** Has Health run `probe`, where there is a connection to be healthy. */
  readonly registerProbe: (probe: Probe) => Effect.Effect<void, never, Scope.Scope>
}

/** How long things are kept, and how much of a queue's history. */
export interface QueueSettings {
  /** How long the outcomes of completed and cancelled jobs are kept. */
  readonly outcomeMillis: number
  /** How many of them at most. */
  readonly outcomeCount: number
  /** How long dead letters are kept. */
  readonly deadMillis: number
  /** How often a job's worker may die before the job is a dead letter. */
  readonly maxCrashes: number
  /** How much later a job with one crash left comes again, when whoever would claim it has such a one. */
  readonly lastChanceMillis: number
  /** How many batches of transitions are kept for those who listen. */
  readonly eventBatches: number
  /** How many replicas must have a job before its enqueueing is acknowledged. */
  readonly replicas: ReplicaWait | undefined
}

// Workers need the engine that a JobQueue stands on, and its shape is no place for it.
const engines = new WeakMap<object, QueueEngine>()

/** Remembers the engine of a `JobQueue`. */
export const attachEngine = <Service extends object>(service: Service, engine: QueueEngine): Service => {
  engines.set(service, engine)
  return service
}

/** The engine of a `JobQueue`. */
export const engineOf = (service: object): QueueEngine => {
  const engine = engines.get(service)
  if (engine === undefined) throw new Error("This JobQueue was not made by one of its layers, and cannot run workers")
  return engine
}
