/** Every test that docs/reliability.md names exists, ran and passed. */
import { readFileSync } from "node:fs"
import { join } from "node:path"

/** A test by its file and its name, as the document's last column has it: `` `test/x.test.ts`: name ``. */
export interface Named {
  readonly file: string
  readonly name: string
}

/** A test that ran. */
export interface Ran extends Named {
  readonly passed: boolean
}

/** The tests that the rows of a Markdown table name, in order. */
export const namedIn = (markdown: string): ReadonlyArray<Named> =>
  markdown.split("\n").filter((line) => line.startsWith("|")).flatMap((line) =>
    Array.from(
      line.matchAll(/`(test\/[^`]+\.test\.ts)`: ([^|<]+?) *(?=<br>|\|)/g),
      ([, file = "", name = ""]) => ({ file, name })
    )
  )

/** What is wrong with the tests that are named, after a run of `ran`. */
export const problemsOf = (named: ReadonlyArray<Named>, ran: ReadonlyArray<Ran>): ReadonlyArray<string> =>
  named.flatMap(({ file, name }) => {
    const found = ran.filter((test) => test.file === file && test.name === name)
    if (found.length === 0) return [`${file} has no test "${name}", or it did not run`]
    return found.every(({ passed }) => passed) ? [] : [`${file}: "${name}" did not pass`]
  })

/** The document. */
export const reliability = (): string => readFileSync(join(import.meta.dirname, "../../docs/reliability.md"), "utf8")
