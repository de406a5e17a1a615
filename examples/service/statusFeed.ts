/** The channel on which every process hears what becomes of messages: one for each tenant. */
import { Effect, Match, Stream } from "effect"
import { Channel, PubSub } from "effect-redis-kit"
import { StatusChange } from "./domain.ts"

const prefix = "status:"

/** Status changes of one tenant's messages. */
export const Statuses = Channel.family((tenant: string) => `${prefix}${tenant}`, StatusChange)

/** Those of all tenants. */
export const AllStatuses = Channel.pattern(`${prefix}*`, StatusChange)

/** What somebody who watches a tenant is told. */
export type Notice =
  | { readonly event: "status"; readonly data: StatusChange }
  /** Something was published that did not arrive here: `GET /jobs/:id` tells how things stand. */
  | { readonly event: "missed"; readonly data: { readonly reason: "connection" | "slow" | "unreadable" } }

/** Watches a tenant until the scope closes. Once it returns, nothing published afterwards is missed untold. */
export const watchTenant = (tenant: string) =>
  Effect.gen(function*() {
    const pubsub = yield* PubSub
    const events = yield* pubsub.eventsScoped(Statuses(tenant))
    return Stream.map(events, toNotice)
  })

const missed = (reason: Extract<Notice, { event: "missed" }>["data"]["reason"]): Notice => ({
  event: "missed",
  data: { reason }
})

const toNotice = Match.type<Channel.Event<StatusChange>>().pipe(
  Match.withReturnType<Notice>(),
  Match.tags({
    Message: ({ message }) => ({ event: "status", data: message }),
    Gap: () => missed("connection"),
    Dropped: () => missed("slow"),
    Undecodable: () => missed("unreadable")
  }),
  Match.exhaustive
)
