/** Lays a script's named values out in the order in which the script reads them. */
import type { RedisScript, ScriptValue } from "../RedisScript.ts"

/** Keys first, then arguments, then the rest: what follows the number of keys in EVALSHA. */
export const layOut = (
  script: RedisScript<any, any, any, unknown>,
  values: Readonly<Record<string, ScriptValue | ReadonlyArray<ScriptValue>>>
): Array<ScriptValue> => {
  const out: Array<ScriptValue> = []
  // A Cluster's hash slots are those of texts and bytes.
  for (const key of script.keys) {
    out.push(typeof values[key] === "number" ? String(values[key]) : values[key] as ScriptValue)
  }
  for (const arg of script.args) out.push(values[arg] as ScriptValue)
  if (script.rest !== undefined) {
    for (const value of values[script.rest] as ReadonlyArray<ScriptValue>) out.push(value)
  }
  return out
}
