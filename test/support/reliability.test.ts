/** The check that docs/reliability.md names tests that exist, ran and passed. */
import { assert, describe, it } from "@effect/vitest"
import { namedIn, problemsOf, reliability } from "./reliability.ts"

const table = [
  "| Fault | What you see | Shown by |",
  "| --- | --- | --- |",
  "| a reply is lost | `Unknown` | `test/a.test.ts`: says so<br>`test/b.test.ts`: tries again |",
  "| a reset | it goes on | `test/a.test.ts`: goes on |"
].join("\n")

describe("The table of faults", () => {
  it("names tests by file and name", () => {
    assert.deepStrictEqual(namedIn(table), [
      { file: "test/a.test.ts", name: "says so" },
      { file: "test/b.test.ts", name: "tries again" },
      { file: "test/a.test.ts", name: "goes on" }
    ])
  })

  it("is wrong when a test that it names is missing or failed", () => {
    const ran = [
      { file: "test/a.test.ts", name: "says so", passed: true },
      { file: "test/a.test.ts", name: "tries again", passed: true },
      { file: "test/a.test.ts", name: "goes on", passed: false }
    ]
    assert.deepStrictEqual(problemsOf(namedIn(table), ran), [
      "test/b.test.ts has no test \"tries again\", or it did not run",
      "test/a.test.ts: \"goes on\" did not pass"
    ])
  })

  it("names a test for each fault", () => {
    const [, tables = ""] = reliability().split("## Tables of faults")
    const rows = tables.split("\n").filter((line) =>
      line.startsWith("| ") && !line.includes("Shown by") && !line.startsWith("| --")
    )
    for (const row of rows) assert.isNotEmpty(namedIn(row), row)
    assert.isAbove(rows.length, 30)
  })
})
