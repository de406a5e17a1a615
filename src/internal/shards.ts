/** Subscriptions to sharded channels: each at the server of a Cluster that has the channel's slot, wherever it moves. */
import { Effect, Exit, Scope } from "effect"
import type { Redis as Client } from "ioredis"
import { RedisError } from "../RedisError.ts"
import type { Sharding } from "./deployment.ts"
import { slotOf } from "./hashSlot.ts"
import { type Listener, makeSubscriber, type Subscribe, type Subscriber } from "./subscriber.ts"

/** One listener, and where it listens. */
interface Post {
  readonly name: string
  readonly slot: number
  readonly listener: Listener
  server: string | undefined
  scope: Scope.Closeable | undefined
  /** The latest try to listen: only what it hears counts. */
  attempt: object | undefined
  /** It has moved, and the listener is not told yet. */
  gap: boolean
  moving: boolean
  closed: boolean
}

/** How long a slot that nobody serves just now is waited for, before the next look. */
const pauseMillis = 50

/** Subscribes to sharded channels. */
type SubscribeToShard = (name: string, listener: Listener) => Effect.Effect<void, RedisError, Scope.Scope>

/** `subscribe`, which finds the servers of sharded channels; where all is on one server, they are like others. */
export const withShards = (
  subscribe: Subscribe,
  sharding: Sharding | undefined,
  timeoutMillis: number
): Effect.Effect<Subscribe, never, Scope.Scope> =>
  sharding === undefined
    ? Effect.succeed((kind, name, listener) => subscribe(kind === "shard" ? "channel" : kind, name, listener))
    : Effect.map(
      makeShards(sharding, timeoutMillis),
      (subscribeToShard): Subscribe => (kind, name, listener) =>
        kind === "shard" ? subscribeToShard(name, listener) : subscribe(kind, name, listener)
    )

const makeShards = (
  sharding: Sharding,
  timeoutMillis: number
): Effect.Effect<SubscribeToShard, never, Scope.Scope> =>
  Effect.gen(function*() {
    const own = yield* Effect.scope
    const context = yield* Effect.context()
    const run = Effect.runForkWith(context)
    const subscribers = new Map<string, Subscriber>()
    const posts = new Set<Post>()
    let moves = 0

    const subscriberAt = (server: string): Effect.Effect<Subscriber> =>
      Effect.suspend(() => {
        const known = subscribers.get(server)
        if (known !== undefined) return Effect.succeed(known)
        return makeSubscriber((onState) =>
          Effect.tap(sharding.openShard(server, onState), ({ client }) =>
            Effect.sync(() =>
              // A slot left this server, and the subscriptions to its channels have ended there; those to others go on.
              client.on("moved", () => {
                sharding.outdated()
                const left = subscribedBy(client)
                for (const post of posts) if (post.server === server && !left.has(post.name)) go(post)
              })
            ))
        ).pipe(
          Scope.provide(own),
          Effect.map((subscriber) => {
            subscribers.set(server, subscriber)
            return subscriber
          })
        )
      })

    /** Fails when a server is not in charge of a slot any more. */
    const replaced = (slot: number, server: string): Effect.Effect<never, RedisError> =>
      Effect.callback((resume) => {
        const stop = sharding.watch(() => {
          if (sharding.serverOf(slot) !== server) resume(Effect.fail(unserved()))
        })
        return Effect.sync(stop)
      })

    /** Listens at whoever has the slot now; a refusal says that somebody else has, as we are about to learn. */
    const listen = (post: Post, until: number): Effect.Effect<Scope.Closeable, RedisError> =>
      Effect.gen(function*() {
        while (!post.closed) {
          const server = sharding.serverOf(post.slot)
          const late = performance.now() >= until
          if (server === undefined) {
            if (late) return yield* unserved()
          } else {
            const scope = yield* Scope.make()
            const { onMessage } = post.listener
            // An earlier one may be at the same server, and is not left yet.
            const current = post.attempt = {}
            const attempt = yield* subscriberAt(server).pipe(
              Effect.flatMap(({ subscribe }) =>
                Effect.raceFirst(
                  subscribe("shard", post.name, {
                    onMessage: (message, channel) => {
                      if (post.attempt !== current) return
                      tellGap(post)
                      onMessage(message, channel)
                    },
                    onGap: (epoch) => post.listener.onGap?.(epoch),
                    onLost: (error) => {
                      if (post.attempt !== current) return
                      if (error.reason === "cluster-down") go(post)
                      else lose(post, error)
                    }
                  }),
                  // It may be down for good, and another takes over.
                  replaced(post.slot, server)
                )
              ),
              Scope.provide(scope),
              Effect.onExit((exit) => Exit.isSuccess(exit) ? Effect.void : Scope.close(scope, exit)),
              Effect.result
            )
            if (attempt._tag === "Success") {
              post.server = server
              return scope
            }
            if (late || attempt.failure.reason !== "cluster-down") return yield* attempt.failure
          }
          sharding.outdated()
          yield* pause
        }
        return yield* unserved()
      })

    // By whichever comes first: the acknowledgement, or a message right behind it.
    const tellGap = (post: Post): void => {
      if (!post.gap) return
      post.gap = false
      post.listener.onGap?.(++moves)
    }

    /** Tells that no more will come, and sees to it. */
    const lose = (post: Post, error: RedisError): void => {
      post.closed = true
      posts.delete(post)
      post.listener.onLost?.(error)
    }

    /** Moves a subscription to whoever has its slot now, and tells that something may have been missed. */
    const go = (post: Post): void => {
      if (post.moving || post.closed) return
      post.moving = true
      post.gap = true
      run(
        Effect.gen(function*() {
          const before = post.scope
          while (!post.closed) {
            const found = yield* Effect.result(listen(post, performance.now() + timeoutMillis))
            if (found._tag === "Failure") {
              if (found.failure.outcome !== "Rejected" || found.failure.reason === "cluster-down") continue
              lose(post, found.failure)
              break
            }
            post.scope = found.success
            if (post.closed) yield* Scope.close(found.success, Exit.void)
            else tellGap(post)
            if (before !== undefined) yield* Scope.close(before, Exit.void)
            break
          }
          post.moving = false
          // It may have moved on meanwhile.
          check(post)
        })
      )
    }

    const check = (post: Post): void => {
      const server = sharding.serverOf(post.slot)
      if (server !== undefined && server !== post.server && post.scope !== undefined) go(post)
    }

    yield* Effect.acquireRelease(
      Effect.sync(() =>
        sharding.watch(() => {
          for (const post of posts) check(post)
        })
      ),
      (stop) =>
        Effect.sync(() => {
          stop()
          for (const post of posts) post.closed = true
        })
    )

    return (name, listener) =>
      Effect.acquireRelease(
        Effect.suspend(() => {
          const post: Post = {
            name,
            slot: slotOf(name),
            listener,
            server: undefined,
            scope: undefined,
            attempt: undefined,
            gap: false,
            moving: false,
            closed: false
          }
          return Effect.map(listen(post, performance.now() + timeoutMillis), (scope) => {
            post.scope = scope
            posts.add(post)
            check(post)
            return post
          })
        }),
        (post) =>
          Effect.suspend(() => {
            post.closed = true
            posts.delete(post)
            return post.scope === undefined ? Effect.void : Scope.close(post.scope, Exit.void)
          }),
        { interruptible: true }
      ).pipe(Effect.asVoid)
  })

/** The sharded channels that a connection is subscribed to now. */
const subscribedBy = (client: Client): ReadonlySet<string> => {
  const { condition } = client as unknown as {
    readonly condition: { readonly subscriber: false | { readonly channels: (kind: "ssubscribe") => Array<string> } }
  }
  return new Set(condition.subscriber === false ? [] : condition.subscriber.channels("ssubscribe"))
}

const unserved = () =>
  new RedisError({
    command: "subscribe",
    reason: "cluster-down",
    outcome: "NotSent",
    detail: "nobody in the Cluster is in charge of the channel's hash slot now"
  })

// Real time: the network does not wait for a test clock.
const pause = Effect.callback<void>((resume) => {
  const timer = setTimeout(() => resume(Effect.void), pauseMillis)
  return Effect.sync(() => clearTimeout(timer))
})
