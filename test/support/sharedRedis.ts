/** Room for a suite on the servers that all suites share. */
import { Effect } from "effect"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"
import { obtain } from "./onDemand.ts"

declare module "vitest" {
  export interface ProvidedContext {
    readonly redisUrl: string
    readonly sharedServersPort: number
  }
}

export interface SharedAddress {
  readonly host: string
  readonly port: number
}

/** What is started when the first test of a run asks for it. */
export interface SharedServers {
  readonly cluster: ReadonlyArray<SharedAddress>
  readonly sentinels: { readonly name: string; readonly nodes: ReadonlyArray<SharedAddress> }
}

/** Where the server that globalSetup.ts started listens. */
export const sharedRedisUrl = (): string => {
  const url: string | undefined = inject("redisUrl")
  // Without it a client would quietly use whatever listens on port 6379.
  if (url === undefined) throw new Error("vitest.config.ts does not name test/support/globalSetup.ts")
  return url
}

const shared = <Name extends keyof SharedServers>(name: Name) =>
  Effect.promise(() => {
    const port: number | undefined = inject("sharedServersPort")
    if (port === undefined) throw new Error("vitest.config.ts does not name test/support/globalSetup.ts")
    return obtain(port, name) as Promise<SharedServers[Name]>
  })

/** The nodes of a Cluster of three masters with a replica each. The first to ask for it waits about two seconds. */
export const sharedClusterNodes: Effect.Effect<SharedServers["cluster"]> = shared("cluster")

/** Three Sentinels, and what they call the master that they watch, which has one replica. */
export const sharedSentinels: Effect.Effect<SharedServers["sentinels"]> = shared("sentinels")

/** A namespace that no other suite uses. Nobody cleans it up: the server keeps nothing beyond the run. */
export const uniqueNamespace = (): string => `t-${randomUUID()}`
