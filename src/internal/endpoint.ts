/** Where a connection goes, and as whom: found out before each attempt, since both may change. */
import { Cause, Effect, Exit, Redacted } from "effect"
import { RedisError } from "../RedisError.ts"
import type { Credentials } from "../RedisSettings.ts"
import type { Address } from "./clientOptions.ts"

/** What is found out; other options stay as they are. Fails with a `RedisError`. */
export type Locate = () => Promise<Pick<Address, "host" | "port" | "username" | "password" | "tls">>

/** Both at once; undefined when nothing is to be found out. */
export const locateBoth = (place: Locate | undefined, credentials: Locate | undefined): Locate | undefined =>
  place === undefined || credentials === undefined
    ? place ?? credentials
    : async () => {
      const [where, who] = await Promise.all([place(), credentials()])
      return { ...where, ...who }
    }

/** Asks `provider`, not longer than a connection may take. */
export const credentialsFrom = (
  provider: Effect.Effect<Credentials, unknown>,
  timeoutMillis: number
): Locate =>
() =>
  new Promise((resolve, reject) => {
    const fiber = Effect.runFork(provider)
    // The network's time, whatever clock the program runs on.
    const timer = setTimeout(() => {
      fiber.interruptUnsafe()
      reject(refused("gave none in time"))
    }, timeoutMillis)
    fiber.addObserver((exit) => {
      clearTimeout(timer)
      if (Exit.isFailure(exit)) return reject(refused(`failed with ${nameOf(Cause.squash(exit.cause))}`))
      const { password, username } = exit.value
      const found: Awaited<ReturnType<Locate>> = { username, password: password && Redacted.value(password) }
      resolve(found)
    })
  })

// Its words may hold what it asked with.
const nameOf = (failure: unknown): string => failure instanceof Error ? failure.name : typeof failure

const refused = (what: string) =>
  new RedisError({
    command: "connect",
    reason: "authentication",
    outcome: "NotSent",
    detail: `the credentials provider ${what}`
  })
