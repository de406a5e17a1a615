/** Users with the rights that docs/security.md and README name for a service called `api`. */
import { assert } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import { randomUUID } from "node:crypto"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import type { RedisSettings } from "../../src/RedisConfig.ts"
import type { RedisServer } from "./redisServer.ts"

const read = (path: string) => readFileSync(join(import.meta.dirname, "../..", path), "utf8")
/** The whole document. */
export const security = read("docs/security.md")

const ruleIn = (text: string, where: string): ReadonlyArray<string> => {
  const [, rule] = /^ *user api (on >password .*)$/m.exec(text) ?? assert.fail(`there is no rule in ${where}`)
  return rule!.split(" ")
}

/** What the section of docs/security.md gives a service called `api`. */
const rulesOf = (heading: string) =>
  ruleIn(security.split(/^#+ /m).find((text) => text.startsWith(`${heading}\n`)) ?? "", heading)

/** What each service is given. */
export const services = {
  redis: rulesOf("Redis"),
  pubSub: rulesOf("PubSub"),
  jobQueue: rulesOf("JobQueue and JobWorker"),
  producer: rulesOf("JobQueue: who only enqueues and waits for results"),
  worker: rulesOf("JobWorker: who only works"),
  observer: rulesOf("JobQueue: who only looks"),
  lock: rulesOf("DistributedLock"),
  rateLimiter: rulesOf("RateLimiter"),
  health: rulesOf("Health")
}
/** What a user for all of them is given. */
export const everything = rulesOf("All of them")
/** What a user in a Cluster needs besides, whatever it uses there. */
export const clusterRights = [
  "in a Cluster, on every server",
  "with readFrom: \"replica\"",
  "with sharded channels",
  "with `replicas` of queues or locks"
].flatMap((what) => {
  const lines = security.split("\n")
  const rights = lines[lines.indexOf(`# ${what}`) + 1]
  return rights?.startsWith("+") === true ? rights.split(" ") : assert.fail(`no rights for ${what}`)
})
/** What README gives, by categories. */
export const wide = ruleIn(read("README.md"), "README")

/** What the rules name behind `+`, `~` or `&`. */
export const namesOf = (sign: string, rules: ReadonlyArray<string>) =>
  rules.filter((rule) => rule.startsWith(sign)).map((rule) => rule.slice(sign.length))

/** Settings of a new user, who has the rights that a service called `api` is given, in `namespace`. */
export const newUser = Effect.fnUntraced(function*(
  server: RedisServer,
  rules: ReadonlyArray<string>,
  namespace = `t-${randomUUID()}`
) {
  const username = randomUUID()
  const renamed = rules.map((rule) => rule.replace("api:", `${namespace}:`))
  assert.strictEqual(yield* server.cli("ACL", "SETUSER", username, ...renamed), "OK")
  const { host, port } = server
  return { host, port, username, password: Redacted.make("password"), namespace } satisfies RedisSettings
})
