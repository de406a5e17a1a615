/** What a channel is: its name, what its messages are, and what subscribers see. */
import type { Redacted } from "effect"
import type { WireSchema } from "./internal/codec.ts"

/** A channel whose messages are what its schema says. */
export interface Channel<in out A> {
  readonly _tag: "Channel"
  readonly name: string
  readonly schema: WireSchema<A>
  /** Whether it belongs to all services on this Redis, rather than to one namespace. */
  readonly shared: boolean
  /** Whether, in a Cluster, only the servers that have its slot deal with it. */
  readonly sharded: boolean
}

/** All channels whose names match a glob pattern, now and later. */
export interface ChannelPattern<in out A> {
  readonly _tag: "ChannelPattern"
  readonly pattern: string
  readonly schema: WireSchema<A>
  /** Whether it means the channels that belong to all services, rather than those of one namespace. */
  readonly shared: boolean
}

/** What was published. */
export interface Message<out A> {
  readonly _tag: "Message"
  readonly channel: string
  readonly message: A
}

/** Something was published that the channel's schema does not know: by another version, or by someone else. */
export interface Undecodable {
  readonly _tag: "Undecodable"
  readonly channel: string
  /** What is wrong with it, without the payload. */
  readonly problem: string
  /** What was published, hidden from logs. */
  readonly payload: Redacted.Redacted
}

/** The connection broke and is back. What was published in between is lost, nobody knows how much. */
export interface Gap {
  readonly _tag: "Gap"
  /** The channel, or the pattern. */
  readonly channel: string
  /** How often the connection for subscriptions has been up, this time included. */
  readonly epoch: number
}

/** This subscriber was too slow for its buffer, and missed `count` messages here. */
export interface Dropped {
  readonly _tag: "Dropped"
  /** The channel, or the pattern. */
  readonly channel: string
  readonly count: number
}

/** Whatever a subscriber may see. */
export type Event<A> = Message<A> | Undecodable | Gap | Dropped

/** How a channel differs from an ordinary one. */
export interface ChannelOptions {
  /** Puts it into the namespace that all services share. Default: false. */
  readonly shared?: boolean | undefined
  /**
   * In a Cluster, an ordinary message goes to all servers, and more servers make nothing faster. That of a sharded channel
   * stays with those that have the channel's hash slot (Redis 7 and later). No pattern hears it, in a Cluster or elsewhere.
   * Default: false.
   */
  readonly sharded?: boolean | undefined
}

/**
 * Defines a channel. Its name may hold any characters, up to 512 bytes.
 *
 * @example
 * ```ts
 * import { Schema } from "effect"
 * import { Channel } from "effect-redis-kit"
 *
 * export const Deployments = Channel.make("deployments", Schema.Struct({ version: Schema.String }))
 * ```
 */
export const make = <A>(name: string, schema: WireSchema<A>, options?: ChannelOptions): Channel<A> => ({
  _tag: "Channel",
  name,
  schema,
  shared: options?.shared === true,
  sharded: options?.sharded === true
})

/**
 * Defines channels that differ in their name only: one for each tenant, order or user.
 *
 * @example
 * ```ts
 * import { Schema } from "effect"
 * import { Channel } from "effect-redis-kit"
 *
 * export const OrderStatus = Channel.family((id: string) => `orders:${id}`, Schema.Literals(["packed", "sent"]))
 *
 * export const one = OrderStatus("4711")
 * ```
 */
export const family = <Id, A>(
  name: (id: Id) => string,
  schema: WireSchema<A>,
  options?: ChannelOptions
): (id: Id) => Channel<A> =>
(id) => make(name(id), schema, options)

/**
 * Names all channels that match `pattern`: `*` stands for any characters, `?` for one, `[a-z]` for one of these, `[^a-z]`
 * for one that is none of these, and a backslash takes the next character as it is.
 *
 * A user whose rights name channels needs a rule for exactly this pattern, as the server has it: for `orders:*`, that is
 * `&<namespace>:channel:orders%3A*`.
 *
 * @example
 * ```ts
 * import { Schema } from "effect"
 * import { Channel } from "effect-redis-kit"
 *
 * export const AllOrders = Channel.pattern("orders:*", Schema.Literals(["packed", "sent"]))
 * ```
 */
export const pattern = <A>(pattern: string, schema: WireSchema<A>, options?: ChannelOptions): ChannelPattern<A> => ({
  _tag: "ChannelPattern",
  pattern,
  schema,
  shared: options?.shared === true
})
