/** Every public name, in reading order. */
export {
  type ConnectionState,
  type DuplicateOptions,
  RedisClient,
  type ReservedClient,
  type SharedClient,
  type UseOptions
} from "./RedisClient.ts"
export * as RedisConfig from "./RedisConfig.ts"
export type { RedisSettings, TlsSettings } from "./RedisConfig.ts"
export { InvalidInput, RedisError, RedisErrorOutcome, RedisErrorReason } from "./RedisError.ts"
export * as RedisScript from "./RedisScript.ts"

export * as Job from "./Job.ts"
export { JobCancelled, JobFailed, JobFailureReason, LeaseLost, ResultExpired, ResultTimeout } from "./JobErrors.ts"
export type { EnqueueOptions, JobCounts, JobEvent, JobInfo, JobPage, QueueRef, TakenJob } from "./JobInfo.ts"
export { JobQueue, JobQueueLive, type JobQueueOptions } from "./JobQueue.ts"
export { JobWorker, type JobWorkerOptions } from "./JobWorker.ts"
