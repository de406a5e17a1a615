/** Puts a history in the order of its jobs: what became of each. */
import type { AskedJob, Entry, History } from "./events.ts"

/** What a queue promises. */
export type Rule =
  /** What was acknowledged to its producer, or has run, reaches a final state. */
  | "nothing is lost"
  | "nothing is stored twice"
  | "nothing runs that was not asked for"
  /** An enqueue that failed as `NotSent` or `Rejected` has not happened. */
  | "what was refused is not there"
  | "tokens grow"
  /** Once a job was claimed with a greater token, a lesser one's report is not taken. */
  | "only the last holder is heard"
  | "a job ends once"
  | "a job ends as its handler says"
  | "only a failure uses up an attempt"
  | "a job starts again for a reason"
  | "processes end when told to"

export interface Violation {
  readonly rule: Rule
  /** The job, or whatever else it is about. */
  readonly about: string
  readonly detail: string
}

/** Events of one kind. */
export type Of<Kind extends Entry["kind"]> = Extract<Entry, { readonly kind: Kind }>

/** What is known of one job. */
export interface Story {
  readonly id: string
  mark: string | undefined
  acknowledged: boolean
  readonly starts: Array<Of<"started">>
  readonly ends: Map<number, Of<"finished">["how"]>
  readonly heard: Set<number>
  readonly ended: Array<string>
  /** How often its holder was given up. */
  stalls: number
  outcome: Of<"outcome"> | undefined
}

/** How an enqueue went, over all times that it was asked for. */
export interface Request {
  readonly job: AskedJob
  asked: number
  /** How often it was said that it has not happened. */
  denied: number
  acknowledged: boolean
  id: string | undefined
}

/** Notes where the queue has broken its word. */
export type Breach = (rule: Rule, about: string, detail: string) => void

/** Puts together what is known of each job, and of each enqueue by its mark. */
export const collect = (history: History, breach: Breach) => {
  const stories = new Map<string, Story>()
  const requests = new Map<string, Request>()
  const storyOf = (id: string): Story => {
    let story = stories.get(id)
    if (story === undefined) {
      story = {
        id,
        mark: undefined,
        acknowledged: false,
        starts: [],
        ends: new Map(),
        heard: new Set(),
        ended: [],
        stalls: 0,
        outcome: undefined
      }
      stories.set(id, story)
    }
    return story
  }
  const isStored = (mark: string, id: string): Story => {
    const story = storyOf(id)
    story.mark = mark
    const request = requests.get(mark)
    if (request === undefined) return story
    request.id ??= id
    if (request.id !== id) breach("nothing is stored twice", id, `"${mark}" is stored as ${request.id}, too`)
    else if (request.job.id !== undefined && request.job.id !== id) {
      breach("nothing is stored twice", id, `"${mark}" was to be stored as ${request.job.id}`)
    }
    return story
  }
  for (const entry of history) {
    switch (entry.kind) {
      case "asked":
        for (const job of entry.jobs) {
          const request = requests.get(job.mark)
          if (request === undefined) {
            requests.set(job.mark, { job, asked: 1, denied: 0, acknowledged: false, id: undefined })
          } else request.asked++
        }
        break
      case "refused":
        for (const mark of entry.marks) {
          const request = requests.get(mark)
          if (request !== undefined && entry.outcome !== "Unknown") request.denied++
        }
        break
      case "enqueued":
        entry.ids.forEach((id, i) => {
          const mark = entry.marks[i]!
          isStored(mark, id).acknowledged = true
          const request = requests.get(mark)
          if (request !== undefined) request.acknowledged = true
        })
        break
      case "started":
        isStored(entry.mark, entry.id).starts.push(entry)
        break
      case "finished":
        storyOf(entry.id).ends.set(entry.token, entry.how)
        break
      case "heard":
        storyOf(entry.id).heard.add(entry.token)
        break
      case "told":
        if (entry.how === "stalled") storyOf(entry.id).stalls++
        else storyOf(entry.id).ended.push(entry.how)
        break
      case "outcome": {
        const story = entry.mark === undefined ? storyOf(entry.id) : isStored(entry.mark, entry.id)
        story.outcome = entry
      }
    }
  }
  return { stories, requests }
}
