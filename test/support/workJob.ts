/** A job that tests in several processes know. */
import { Schema } from "effect"
import * as Job from "../../src/Job.ts"

/** `echo` ends at once, `hang` never, and `gate` when its process is told to. */
export const Work = Job.make("work", {
  payload: Schema.Struct({ kind: Schema.Literals(["echo", "hang", "gate"]), text: Schema.String }),
  success: Schema.String
})
