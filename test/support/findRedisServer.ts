/** Where the server binary is that tests, examples and benches start. */
import { accessSync, constants, statSync } from "node:fs"
import { delimiter, join } from "node:path"

/**
 * `REDIS_SERVER_BIN` (a path, or a name on the PATH), else `redis-server`, else `valkey-server` on the PATH. When
 * `REDIS_SERVER_BIN` names nothing that runs, that is undefined too: tests on another server than the one that was
 * asked for would say nothing about it.
 */
export const findRedisServer = (): string | undefined => {
  const named = process.env["REDIS_SERVER_BIN"]
  if (named) return /[/\\]/.test(named) ? runnable(named) : onPath(named)
  return onPath("redis-server") ?? onPath("valkey-server")
}

const onPath = (name: string): string | undefined => {
  for (const directory of (process.env["PATH"] ?? "").split(delimiter)) {
    const found = directory === "" ? undefined : runnable(join(directory, name))
    if (found !== undefined) return found
  }
  return undefined
}

const runnable = (path: string): string | undefined => {
  try {
    accessSync(path, constants.X_OK)
    return statSync(path).isFile() ? path : undefined
  } catch {
    return undefined
  }
}
