/** Room for a suite on the server that all suites share. */
import { randomUUID } from "node:crypto"
import { inject } from "vitest"

declare module "vitest" {
  export interface ProvidedContext {
    readonly redisUrl: string
  }
}

/** Where the server that globalSetup.ts started listens. */
export const sharedRedisUrl = (): string => {
  const url: string | undefined = inject("redisUrl")
  // Without it a client would quietly use whatever listens on port 6379.
  if (url === undefined) throw new Error("vitest.config.ts does not name test/support/globalSetup.ts")
  return url
}

/** A namespace that no other suite uses. Nobody cleans it up: the server keeps nothing beyond the run. */
export const uniqueNamespace = (): string => `t-${randomUUID()}`
