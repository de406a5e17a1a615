/** The example service in the test's own process, on any layers. */
import { ConfigProvider, Effect, Layer } from "effect"
import { type Services, ServicesMemory } from "effect-redis-kit"
import { HttpServer } from "effect/http"
import { ServiceConfig } from "../../examples/service/config.ts"
import { api, worker } from "../../examples/service/service.ts"
import { type Environment, temporaryFolder } from "./support.ts"

/** The whole service in this process. Yields its address. */
export const serveHere = <E>(environment: Environment, services: Layer.Layer<Services, E>) =>
  Effect.gen(function*() {
    const context = yield* Layer.build(
      Layer.merge(api, worker).pipe(
        Layer.provide(services),
        Layer.provide(ServiceConfig.layer),
        Layer.provide(ConfigProvider.layer(ConfigProvider.fromEnvRecord({ PORT: "0", ...environment })))
      )
    )
    return yield* Effect.provideContext(
      HttpServer.addressFormattedWith((address) => Effect.succeed(address)),
      context
    )
  })

/** The whole service in memory, with its mails in a folder. */
export const serveInMemory = (environment: Environment = {}) =>
  Effect.gen(function*() {
    const mails = yield* temporaryFolder
    return { address: yield* serveHere({ MAIL_DIR: mails, ...environment }, ServicesMemory), mails }
  })
