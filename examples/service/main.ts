/** A clinic tells its patients of their appointments: `npm start`. */
import { NodeRuntime } from "@effect/platform-node"
import { Cause, Config, Console, Data, Effect, Exit, Layer } from "effect"
import { RedisConfig, ServicesAuto } from "effect-redis-kit"
import { HttpServerError } from "effect/http"
import { ServiceConfig } from "./config.ts"
import { api, worker } from "./service.ts"
import { startMessage } from "./startMessage.ts"

/** Whoever stops us waits 10 seconds. What has not ended by then does not end. */
const longestStopMillis = 9500

class RoleNeedsRedis extends Data.TaggedError("RoleNeedsRedis")<{ readonly role: string }> {
  override get message(): string {
    return `ROLE=${this.role} shares its jobs with other processes, and so needs Redis: set REDIS_URL or REDIS_HOST. ` +
      "In memory, one process has to do both: leave ROLE out"
  }
}

const main = Layer.unwrap(Effect.gen(function*() {
  const { role } = yield* ServiceConfig
  if (role !== "both" && !(yield* RedisConfig.isConfigured)) return yield* new RoleNeedsRedis({ role })
  return {
    api: Layer.provide(startMessage, api),
    worker: Layer.provide(startMessage, worker),
    both: Layer.provide(startMessage, [api, worker])
  }[role]
})).pipe(Layer.provide(ServicesAuto), Layer.provide(ServiceConfig.layer))

const describe = (error: unknown): string => {
  if (error instanceof HttpServerError.ServeError) return `It cannot listen: ${describe(error.cause)}`
  if (error instanceof Config.ConfigError) return `The environment is wrong: ${describe(error.cause)}`
  // What a schema says takes two lines: what it expects, and at which variable.
  return error instanceof Error ? error.message.replaceAll(/\n\s*/g, " ") : String(error)
}

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    setTimeout(() => {
      console.error("It has not stopped in time, and is cut off. What it was doing is done again by another worker.")
      process.exit(1)
    }, longestStopMillis).unref()
  })
}

NodeRuntime.runMain(
  Effect.tapCause(
    Layer.launch(main),
    (cause) => Cause.hasInterruptsOnly(cause) ? Effect.void : Console.error(describe(Cause.squash(cause)))
  ),
  {
    disableErrorReporting: true,
    // Stopped by a signal, it has done what it should.
    teardown: (exit, end) => end(Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause) ? 1 : 0)
  }
)
