/** A job that puts the process that runs it to the test. */
import { Schema } from "effect"
import * as Job from "../../src/Job.ts"

/**
 * `echo` ends at once. `hang` never ends. `gate` ends when its process reads a line, and `block` too, but keeps its
 * process from doing anything else until then. `die` kills its process.
 */
export const Errand = Job.make("errand", {
  payload: Schema.Struct({ kind: Schema.Literals(["echo", "hang", "gate", "block", "die"]), text: Schema.String }),
  success: Schema.String
})
