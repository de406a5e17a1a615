/** Preloaded (`--import`), has a process find the package's sources under its name: no test runs on a stale build. */
import { registerHooks } from "node:module"

const sources = new Map([
  ["effect-redis-kit", new URL("../../src/index.ts", import.meta.url).href],
  ["effect-redis-kit/http", new URL("../../src/http/index.ts", import.meta.url).href]
])

registerHooks({
  resolve: (specifier, context, nextResolve) => {
    const url = sources.get(specifier)
    return url === undefined ? nextResolve(specifier, context) : { url, shortCircuit: true }
  }
})
