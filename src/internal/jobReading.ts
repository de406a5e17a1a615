/** What is stored of a job, as callers see it. */
import type { JobInfo } from "../JobInfo.ts"
import type { JobSnapshot } from "./queueEngine.ts"
import { readFailure } from "./queueRecord.ts"

/** Tells what is known of a job. */
export const toInfo = ({ dueAt, failure, id, outcome, record, state }: JobSnapshot, queue: string): JobInfo => {
  const failed = state === "failed" && outcome !== undefined ? readFailure(outcome.body) : failure
  return {
    id,
    name: record?.name || outcome?.name || queue,
    state,
    attempt: outcome?.attempt ?? (record === undefined ? 0 : record.failures + (state === "active" ? 1 : 0)),
    priority: record?.priority,
    tenant: record?.tenant ?? outcome?.tenant,
    tags: record?.meta.g ?? [],
    enqueuedAt: record?.enqueuedAt,
    dueAt,
    finishedAt: outcome?.finishedAt,
    payload: record === undefined ? undefined : parse(record.payload),
    failure: failed === undefined ? undefined : { reason: failed.reason, detail: failed.message }
  }
}

// A payload that is no JSON was not written by us; it is shown as it is.
const parse = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}
