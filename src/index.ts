/** Every public name, in reading order. */
export { InvalidInput, RedisError, RedisErrorOutcome, RedisErrorReason } from "./RedisError.ts"

export * as RedisConfig from "./RedisConfig.ts"
export type {
  Address,
  ClusterSettings,
  Credentials,
  NatMap,
  RedisSettings,
  SentinelSettings,
  TlsSettings
} from "./RedisSettings.ts"

export {
  type ConnectionState,
  type DuplicateClusterOptions,
  type DuplicateOptions,
  type Listener,
  RedisClient,
  type ReplicaOptions,
  type ReservedClient,
  type ScriptOptions,
  type ServerHandle,
  type SharedClient,
  type Subscribe,
  type SubscriptionKind,
  type Use,
  type UseOptions
} from "./RedisClient.ts"

export * as RedisScript from "./RedisScript.ts"

export { Redis, RedisLive, type ScanOptions, type SetOptions, Undecodable, type WireSchema } from "./Redis.ts"

export * as Channel from "./Channel.ts"
export {
  type BufferError,
  type BufferStrategy,
  PubSub,
  PubSubLive,
  SlowSubscriber,
  type SubscribeError,
  type SubscribeOptions
} from "./PubSub.ts"

export * as Job from "./Job.ts"
export { JobCancelled, JobFailed, JobFailureReason, LeaseLost, ResultExpired, ResultTimeout } from "./JobErrors.ts"
export type {
  EnqueueOptions,
  JobCounts,
  JobEvent,
  JobInfo,
  JobPage,
  JobState,
  QueueRef,
  TakenJob,
  TransitionKind
} from "./JobInfo.ts"
export { JobQueue, JobQueueLive, type JobQueueOptions } from "./JobQueue.ts"
export { JobWorker, type JobWorkerOptions } from "./JobWorker.ts"

export { DistributedLock, DistributedLockLive, type DistributedLockOptions } from "./DistributedLock.ts"
export {
  type GuardOptions,
  type Lease,
  type LeaseOptions,
  LockLost,
  type LockOptions,
  type LockStatus,
  LockTaken,
  LockTimeout,
  type Work
} from "./Lease.ts"

export * as RateLimit from "./RateLimit.ts"
export {
  type CheckOptions,
  CostAboveLimit,
  type LimitOptions,
  type Limits,
  type LimitVerdict,
  type OnUnavailable,
  RateLimited,
  RateLimiter,
  type RateLimiterError,
  RateLimiterLive,
  type RateLimiterOptions,
  type Verdict
} from "./RateLimiter.ts"

export {
  type ComponentHealth,
  Health,
  type HealthDetail,
  type HealthDetails,
  HealthLive,
  type HealthOptions,
  type HealthReport,
  type HealthStatus,
  type Liveness,
  type Readiness,
  type RedisDetails,
  type RedisFindings
} from "./Health.ts"

export { type Services, ServicesAuto, ServicesLive, ServicesMemory } from "./Services.ts"
