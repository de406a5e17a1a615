/** How the tests run: a process for each file, as many at a time as a small machine carries, and no second chances. */
import { join } from "node:path"
import { defineConfig } from "vitest/config"

const source = (file: string) => join(import.meta.dirname, "src", file)

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: "test/support/globalSetup.ts",
    // Each file opens sockets and starts servers of its own; a process per file shows what it leaves behind, and ends it.
    pool: "forks",
    isolate: true,
    // Tests that wait for leases and timeouts need a core to be free when the time comes.
    maxWorkers: 2,
    testTimeout: 15_000,
    hookTimeout: 30_000,
    teardownTimeout: 10_000,
    // A test that passes the second time is a test that fails.
    retry: 0,
    // Types are pinned by `npm run check`; the package's own name means its sources here, so no test runs on a stale build.
    alias: {
      "effect-redis-kit/http": source("http/index.ts"),
      "effect-redis-kit": source("index.ts")
    }
  }
})
