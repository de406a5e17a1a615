/** Why there is no result, and why a claim ended. */
import { Schema } from "effect"

/** Why a job failed for good. */
export const JobFailureReason = Schema.Literals(["error", "defect", "timeout", "crashed", "undecodable"])

/**
 * The job failed for good, and not with an error that its `error` schema names:
 * - `defect`: its handler died
 * - `timeout`: its last attempt took too long
 * - `crashed`: its workers died, or lost its lease, too often
 * - `undecodable`: its payload, error or result does not fit the schema of whoever reads it
 * - `error`: it failed with an error that only another version's schema can read
 */
export class JobFailed extends Schema.TaggedError<JobFailed>()("JobFailed", {
  id: Schema.String,
  reason: JobFailureReason,
  detail: Schema.String
}) {
  override get message(): string {
    return `Job ${this.id} failed (${this.reason}): ${this.detail}`
  }
}

/** The job was cancelled, so there will be no result. */
export class JobCancelled extends Schema.TaggedError<JobCancelled>()("JobCancelled", {
  id: Schema.String,
  reason: Schema.String
}) {
  override get message(): string {
    return `Job ${this.id} was cancelled: ${this.reason}`
  }
}

/** The job has not ended in time. It goes on; `result` can be asked again. */
export class ResultTimeout extends Schema.TaggedError<ResultTimeout>()("ResultTimeout", { id: Schema.String }) {
  override get message(): string {
    return `Job ${this.id} has not ended in time`
  }
}

/** Nothing is known of the job: its outcome is no longer kept, or it was removed, or never enqueued. */
export class ResultExpired extends Schema.TaggedError<ResultExpired>()("ResultExpired", { id: Schema.String }) {
  override get message(): string {
    return `Nothing is known of job ${this.id}: it was removed, or its outcome is no longer kept`
  }
}

/** A job that was taken is not held any more: it has been settled, or its lease has passed and somebody else may have it. */
export class LeaseLost extends Schema.TaggedError<LeaseLost>()("LeaseLost", { id: Schema.String }) {
  override get message(): string {
    return `Job ${this.id} is not held any more: it has been settled, or its lease has passed`
  }
}
