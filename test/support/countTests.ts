/** What a run of Vitest came to, by its report: the failures on stderr, `N passed, N failed` on stdout. */
import { readFileSync } from "node:fs"
import { relative } from "node:path"

interface Report {
  readonly numTotalTests: number
  readonly numPassedTests: number
  readonly testResults: ReadonlyArray<{
    readonly name: string
    readonly status: string
    readonly message: string
    readonly assertionResults: ReadonlyArray<{
      readonly fullName: string
      readonly status: string
      readonly failureMessages: ReadonlyArray<string>
    }>
  }>
}

const report: Report = JSON.parse(readFileSync(process.argv[2]!, "utf8"))

let unloaded = 0
for (const { assertionResults, message, name, status } of report.testResults) {
  const file = relative(".", name)
  if (status === "failed" && assertionResults.length === 0) {
    unloaded++
    console.error(`${file}: ${message}`)
  }
  for (const test of assertionResults) {
    // A skipped test has not shown anything.
    if (test.status !== "passed") {
      console.error([`${file}: ${test.fullName}: ${test.status}`, ...test.failureMessages].join("\n"))
    }
  }
}
console.log(`${report.numPassedTests} passed, ${report.numTotalTests - report.numPassedTests + unloaded} failed`)
