/** The time that scripts see: the server's own, which tests may move ahead. */
import { Context } from "effect"

/** Milliseconds that scripts add to the server's `TIME`. Tests provide one of their own and count it up instead of waiting. */
export const ServerClock: Context.Reference<{ offsetMillis: number }> = Context.Reference<{ offsetMillis: number }>(
  "effect-redis-kit/internal/ServerClock",
  { defaultValue: () => Object.freeze({ offsetMillis: 0 }) }
)
