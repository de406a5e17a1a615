/** The numbered examples, in reading order, and the repository that they are in. */
import { existsSync, readdirSync } from "node:fs"
import { join } from "node:path"

export const root = join(import.meta.dirname, "../..")

const directory = join(root, "examples")

/** Whether there is a folder of examples at all. */
export const hasExamples = (): boolean => existsSync(directory)

export const numberedExamples = (): ReadonlyArray<{ readonly name: string; readonly path: string }> =>
  hasExamples()
    ? readdirSync(directory)
      .filter((name) => /^\d\d-.*\.ts$/.test(name))
      .toSorted()
      .map((name) => ({ name, path: join(directory, name) }))
    : []

/** Our environment without anything that says where Redis is: on it, a program runs on memory. */
export const withoutRedis = (): NodeJS.ProcessEnv =>
  Object.fromEntries(
    Object.entries(process.env).filter(([name]) =>
      name === "REDIS_SERVER_BIN" || !/^(?:REDIS_|SERVICE_NAME$)/.test(name)
    )
  )
