/** The keys of a queue, and what each holds. */

/** The keys of a queue, in the order in which `queueKeys` spells them. All are in one slot. */
export const queueKeyNames = [
  // ids of jobs that may run, one list a priority
  "ready_0",
  "ready_1",
  "ready_2",
  "ready_3",
  "ready_4",
  "ready_5",
  "ready_6",
  "ready_7",
  "ready_8",
  "ready_9",
  // id -> record, of every job that is not completed or cancelled
  "jobs",
  // ids by when they are due
  "delayed",
  // tokens of claims by when their lease passes
  "leases",
  // token -> request and ids; #token -> how many of them are not settled; request -> token
  "claims",
  // id -> token of the claim, of every job that is held; and one field more
  "holders",
  // id -> how the job ended
  "outcomes",
  // completed and cancelled ids, a batch an entry, oldest first
  "finished",
  // ids of dead letters by when they died
  "dead",
  // id -> the last failure of a job that will be tried again, behind the token of its claim
  "failures",
  // id -> why a running job is to be cancelled
  "cancels",
  // id -> inboxes that wait for its end
  "awaited",
  // requests of those who wait for jobs, by when they stop
  "sleepers",
  // paused, token, stale, generation, tenants
  "meta",
  // transitions, a batch an entry
  "events"
] as const

export type QueueKey = typeof queueKeyNames[number]
