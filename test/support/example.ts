/** `npm run example -- 03`: runs the example with that number; without a number, lists them. */
import { spawnSync } from "node:child_process"
import { numberedExamples } from "./examples.ts"

const [number, ...args] = process.argv.slice(2)
const examples = numberedExamples()
const example = examples.find(({ name }) => number !== undefined && name.startsWith(`${number.padStart(2, "0")}-`))

if (example === undefined) {
  const wrong = number !== undefined
  const list = examples.map(({ name }) => `  ${name}`).join("\n")
  console.log(`${wrong ? `No example ${number}. ` : ""}npm run example -- <number>, of:\n${list}`)
  process.exitCode = wrong ? 1 : 0
} else {
  const { status } = spawnSync(process.execPath, [example.path, ...args], { stdio: "inherit" })
  process.exitCode = status ?? 1
}
