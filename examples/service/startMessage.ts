/** What one reads when the service has started: what it runs on, where it is, and what to try. */
import { Clock, Console, Effect, Layer, Option } from "effect"
import { RedisConfig } from "effect-redis-kit"
import { HttpServer } from "effect/http"
import { randomUUID } from "node:crypto"
import { idOf } from "./appointments.ts"
import { ServiceConfig } from "./config.ts"
import { Mailer } from "./mailer.ts"

const day = 86_400_000

export const startMessage = Layer.effectDiscard(Effect.gen(function*() {
  const { role } = yield* ServiceConfig
  const server = Option.getOrUndefined(yield* Effect.serviceOption(HttpServer.HttpServer))
  const mailer = Option.getOrUndefined(yield* Effect.serviceOption(Mailer))
  const parts = { both: "API and worker", api: "API", worker: "worker" }[role]
  yield* Console.log(`Engine: ${(yield* RedisConfig.isConfigured) ? "Redis" : "memory (set REDIS_URL for Redis)"}`)
  yield* Console.log(`Role: ${role} (${parts} in this process)`)
  if (mailer !== undefined) yield* Console.log(`Mails go to ${mailer.destination}`)
  if (server !== undefined) {
    const address = addressOf(server.address)
    yield* Console.log(`Listening on ${address}\n\nTry:`)
    for (const line of examples(address, yield* Clock.currentTimeMillis)) yield* Console.log(`  ${line}`)
    yield* Console.log(`\nand watch: ${address}/events?tenant=demo`)
  }
  yield* Console.log("Ready. Ctrl-C stops it.")
}))

const addressOf = (address: HttpServer.HttpServer["Service"]["address"]): string => {
  if (address._tag === "UnixPathAddress") return address.path
  const text = HttpServer.formatAddress(address)
  // Bound to every address, it is at this one, too.
  return text.replace(/\/\/(?:0\.0\.0\.0|\[::\])/, "//localhost")
}

/** As an Idempotency-Key fixes the job's id, the line that asks for the job is known before the job is. */
const examples = (address: string, now: number): ReadonlyArray<string> => {
  const key = randomUUID()
  const body = {
    tenant: "demo",
    patientId: "p-1",
    patientName: "Ada Lovelace",
    email: "ada@example.com",
    at: new Date(now + day).toISOString()
  }
  return [
    `curl ${address}/appointments -H 'content-type: application/json' -H 'x-client-id: demo' ` +
    `-H 'idempotency-key: ${key}' -d '${JSON.stringify(body)}'`,
    `curl ${address}/jobs/${idOf("client demo", key)}`,
    `curl ${address}/health/redis`
  ]
}
