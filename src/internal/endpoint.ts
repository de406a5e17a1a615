/** Where a connection goes, and as whom: found out before each attempt, since both may change. */
import { Cause, type Context, Effect, Exit, Redacted } from "effect"
import { RedisError, type RedisErrorReason } from "../RedisError.ts"
import type { Credentials } from "../RedisSettings.ts"
import type { Address } from "./clientOptions.ts"

/** What is found out; other options stay as they are. Fails with a `RedisError`. */
export type Locate = (signal: AbortSignal) => Promise<Pick<Address, "host" | "port" | "username" | "password" | "tls">>

/** Both at once; undefined when nothing is to be found out. */
export const locateBoth = (place: Locate | undefined, credentials: Locate | undefined): Locate | undefined =>
  place === undefined || credentials === undefined
    ? place ?? credentials
    : async (signal) => {
      const [where, who] = await Promise.all([place(signal), credentials(signal)])
      return { ...where, ...who }
    }

/** Asks `provider`, not longer than a connection may take. */
export const credentialsFrom = (
  provider: Effect.Effect<Credentials, unknown>,
  context: Context.Context<never>,
  timeoutMillis: number
): Locate =>
(signal) =>
  new Promise((resolve, reject) => {
    const fiber = Effect.runForkWith(context)(Effect.map(provider, inClear), { signal })
    // The network's time, whatever clock the program runs on.
    const timer = setTimeout(() => {
      reject(refused("timeout", "gave none in time"))
      fiber.interruptUnsafe()
    }, timeoutMillis)
    fiber.addObserver((exit) => {
      clearTimeout(timer)
      if (Exit.isSuccess(exit)) resolve(exit.value)
      else reject(refused("authentication", `failed with ${nameOf(Cause.squash(exit.cause))}`))
    })
  })

const inClear = ({ password, username }: Credentials) => ({ username, password: password && Redacted.value(password) })

// Its words may hold what it asked with.
const nameOf = (failure: unknown): string => failure instanceof Error ? failure.name : typeof failure

const refused = (reason: RedisErrorReason, what: string) =>
  new RedisError({
    command: "connect",
    reason,
    outcome: "NotSent",
    detail: `the credentials provider ${what}`
  })
