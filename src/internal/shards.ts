/** Subscriptions to sharded channels: each at the server of a Cluster that has the channel's slot, wherever it moves. */
import { Effect, Exit, Scope } from "effect"
import type { RedisError } from "../RedisError.ts"
import type { Sharding } from "./deployment.ts"
import { slotOf } from "./hashSlot.ts"
import { type Listener, makeSubscriber, type Subscriber } from "./subscriber.ts"

/** One listener, and where it listens. */
interface Post {
  readonly name: string
  readonly slot: number
  readonly listener: Listener
  server: string | undefined
  scope: Scope.Closeable | undefined
  moving: boolean
  closed: boolean
}

/** How long a slot that nobody serves just now is waited for, before the next look. */
const pauseMillis = 50

/** Subscribes to sharded channels. */
export type SubscribeToShard = (name: string, listener: Listener) => Effect.Effect<void, RedisError, Scope.Scope>

export const makeShards = (
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
              // A slot left this server, and the subscriptions to its channels have ended there.
              client.on("moved", () => {
                sharding.outdated()
                for (const post of posts) if (post.server === server) go(post)
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

    /** Listens at whoever has the slot now; a refusal says that somebody else has, as we are about to learn. */
    const listen = (post: Post, until: number): Effect.Effect<Scope.Closeable, RedisError> =>
      Effect.gen(function*() {
        while (true) {
          const server = sharding.serverOf(post.slot)
          const late = performance.now() >= until
          if (server !== undefined || late) {
            const scope = yield* Scope.make()
            const { onMessage, onLost } = post.listener
            const attempt = yield* subscriberAt(server ?? "").pipe(
              Effect.flatMap(({ subscribe }) =>
                subscribe("shard", post.name, {
                  onMessage,
                  onGap: (epoch) => post.listener.onGap?.(epoch),
                  onLost: (error) => error.reason === "cluster-down" ? go(post) : onLost?.(error)
                })
              ),
              Scope.provide(scope),
              Effect.onExit((exit) => Exit.isSuccess(exit) ? Effect.void : Scope.close(scope, exit)),
              Effect.result
            )
            if (attempt._tag === "Success") {
              post.server = server
              return scope
            }
            if (late || attempt.failure.reason !== "cluster-down") return yield* Effect.fail(attempt.failure)
          }
          sharding.outdated()
          yield* pause
        }
      })

    /** Moves a subscription to whoever has its slot now, and tells that something may have been missed. */
    const go = (post: Post): void => {
      if (post.moving || post.closed) return
      post.moving = true
      run(
        Effect.uninterruptible(Effect.gen(function*() {
          const before = post.scope
          while (!post.closed) {
            const found = yield* Effect.result(listen(post, performance.now() + timeoutMillis))
            if (found._tag === "Failure") {
              if (found.failure.outcome !== "Rejected" || found.failure.reason === "cluster-down") continue
              post.listener.onLost?.(found.failure)
              break
            }
            post.scope = found.success
            if (before !== undefined) yield* Scope.close(before, Exit.void)
            if (post.closed) yield* Scope.close(found.success, Exit.void)
            else post.listener.onGap?.(++moves)
            break
          }
          post.moving = false
          // It may have moved on meanwhile.
          check(post)
        }))
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

// Real time: the network does not wait for a test clock.
const pause = Effect.callback<void>((resume) => {
  const timer = setTimeout(() => resume(Effect.void), pauseMillis)
  return Effect.sync(() => clearTimeout(timer))
})
