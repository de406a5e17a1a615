/** What the measurements of our own library run on: the built package, and a server that is gone afterwards. */
import { Effect } from "effect"
import { Redis } from "ioredis"
import { RedisServer } from "../../test/support/redisServer.ts"
import { describeMachine, requireBuild, versions } from "./preparation.ts"
import { type About, header } from "./report.ts"

export interface OwnServer {
  readonly port: number
  /** A connection for questions; it is called `control`. */
  readonly control: Redis
  readonly version: string
}

/** Starts a server for `work`. */
export const withServer = <A>(work: (server: OwnServer) => Promise<A>): Promise<A> =>
  Effect.runPromise(Effect.scoped(Effect.gen(function*() {
    const { port, version } = yield* RedisServer.start()
    const control = new Redis({ port, connectionName: "control" })
    const result = yield* Effect.promise(() => work({ port, control, version: version.join(".") }))
    control.disconnect()
    return result
  })))

/** Builds the library and starts a server for `work`, and prints what they are. */
export const onOwnServer = (
  options: { readonly json: boolean; readonly smoke?: boolean; readonly rounds?: number },
  work: (server: OwnServer, about: About) => Promise<void>
): Promise<void> => {
  requireBuild()
  return withServer((server) => {
    const { json, ...rest } = options
    const about = { ...describeMachine(), ...rest, versions: { ...versions(), "redis-server": server.version } }
    console.log(json ? JSON.stringify({ run: about }) : header(about))
    return work(server, about)
  })
}
