/** What every queue of jobs does, whatever engine it stands on. */
import { layer as suite } from "@effect/vitest"
import { Layer } from "effect"
import { badPayloads } from "./badInput/jobPayloads.ts"
import { badInput } from "./badInput/jobQueue.ts"
import { control } from "./jobQueue/control.ts"
import { enqueueing } from "./jobQueue/enqueueing.ts"
import { events } from "./jobQueue/events.ts"
import { input } from "./jobQueue/input.ts"
import { keeping } from "./jobQueue/keeping.ts"
import { outcomes } from "./jobQueue/outcomes.ts"
import { partitions } from "./jobQueue/partitions.ts"
import { partitionWork } from "./jobQueue/partitionWork.ts"
import type { Engine } from "./jobQueue/support.ts"
import { taking } from "./jobQueue/taking.ts"
import { working } from "./jobQueue/working.ts"

/** The contract of `JobQueue` and `JobWorker`. */
export const jobQueue = (name: string, engine: Engine, options?: { readonly excludeTestServices?: boolean }) =>
  suite(Layer.orDie(engine.layer({})), options)(`JobQueue (${name})`, (it) => {
    for (
      const part of [
        enqueueing,
        outcomes,
        control,
        keeping,
        events,
        taking,
        working,
        partitions,
        partitionWork,
        input,
        badInput,
        badPayloads
      ]
    ) {
      part(it, engine)
    }
  })
