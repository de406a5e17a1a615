/** Redis on one server, or on that of several which the Sentinels name. */
import { Effect, Result, type Scope } from "effect"
import type { ConnectionState } from "./connection.ts"
import type { Deployment, Open } from "./deployment.ts"
import { isBroken, toRedisError } from "./failure.ts"

/** A connection for all, and further ones to the same server. */
export const oneServer = (
  open: Open,
  address: string,
  onState: (state: ConnectionState) => void
): Effect.Effect<Deployment, never, Scope.Scope> =>
  Effect.map(open("commands", { onState }), ({ calls: { run }, client, connected }): Deployment => ({
    client,
    run,
    connected,
    slotOf: undefined,
    multi: (build) => run("multi", () => build(client.multi()).exec()),
    pipeline: (build) =>
      Effect.map(
        run("pipeline", async () => {
          const replies = await build(client.pipeline()).exec() ?? []
          // Nothing came back: what that means, the connection decides for all of them together.
          if (replies.length > 0 && replies.every(([error]) => isBroken(error))) throw replies[0]![0]
          return replies
        }),
        (replies) =>
          replies.map(([error, reply]) =>
            error === null ? Result.succeed(reply) : Result.fail(toRedisError("pipeline", error, true))
          )
      ),
    servers: Effect.succeed([{ address, run }]),
    openSubscriptions: (onState) => open("subscriptions", { onState }),
    openDurable: Effect.map(open("durable", {}), (durable) => durable.calls.run),
    openReserved: () => Effect.tap(open("reserved", { exclusive: true }), (reserved) => reserved.eventually),
    cluster: undefined
  }))
