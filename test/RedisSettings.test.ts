/** Settings that make no sense are refused before anything is connected to, by all who take them. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Redacted } from "effect"
import { Redis } from "../src/Redis.ts"
import { RedisClient } from "../src/RedisClient.ts"
import type { RedisSettings } from "../src/RedisSettings.ts"

const marker = "s3cr3t-marker"

const node = { host: "localhost", port: 1 }
const sentinel = { name: "main", nodes: [node] }
const cluster = { nodes: [node] }
const port = /port must be from 1 to 65535/
const hosts = /each node must have a host, and a port from 1 to 65535/
const natMap = /natMap must lead from addresses like 10\.0\.0\.7:6379/

const refused: ReadonlyArray<[string, RedisSettings, RegExp]> = [
  ...[0, -1, 65_536, 1.5, NaN, Infinity].map((bad): [string, RedisSettings, RegExp] => [`port ${bad}`, {
    port: bad
  }, port]),
  ["an empty host", { host: "" }, /host and path must not be empty/],
  ["a Cluster and Sentinels", { cluster, sentinel }, /either a Cluster or Sentinels, not both/],
  ["a Cluster's URL and Sentinels", { url: "redis://h1,h2", sentinel }, /either a Cluster or Sentinels, not both/],
  ["a Cluster without nodes", { cluster: { nodes: [] } }, /at least one node must be named/],
  ["Sentinels without nodes", { sentinel: { name: "main", nodes: [] } }, /at least one node must be named/],
  ["a node without a host", { cluster: { nodes: [node, { host: "" }] } }, hosts],
  ["a Sentinel at port 0", { sentinel: { name: "main", nodes: [node, { host: "a", port: 0 }] } }, hosts],
  ["a node at port 70000", { cluster: { nodes: [{ host: "a", port: 70_000 }] } }, hosts],
  ["a map to no host", { sentinel: { ...sentinel, natMap: { "a:1": { host: "" } } } }, hosts],
  ["a map to port 0", { cluster: { ...cluster, natMap: { "a:1": { host: "b", port: 0 } } } }, hosts],
  ["a map from a host alone", { cluster: { ...cluster, natMap: { "10.0.0.7": node } } }, natMap],
  ["a map from port 0", { sentinel: { ...sentinel, natMap: { "a:0": node } } }, natMap],
  ["a map from no host", { sentinel: { ...sentinel, natMap: { ":1": node } } }, natMap],
  ["no name for the master", { sentinel: { name: "", nodes: [node] } }, /name of the master must not be empty/],
  ["a Cluster's database", { cluster, db: 1 }, /a Cluster has only database 0/],
  ["a Cluster behind a socket", { cluster, path: "/tmp/redis.sock" }, /a socket leads to one server/],
  ["Sentinels behind a socket", { sentinel, url: "unix:///tmp/redis.sock" }, /a socket leads to one server/],
  ["a certificate without its key", { tls: { cert: "x" } }, /a certificate together with its key/],
  ["a key without its certificate", { tls: { key: Redacted.make(marker) } }, /a certificate together with its key/],
  ["half of what Sentinels are shown", { sentinel: { ...sentinel, tls: { cert: "x" } } }, /together with its key/],
  ["database -1", { db: -1 }, /db must be the number of a database/],
  ["no connect timeout", { connectTimeout: 0 }, /connectTimeout must be/],
  ["a connect timeout that is none", { connectTimeout: "soon" as "1 second" }, /connectTimeout must be/],
  ["an endless command timeout", { commandTimeout: Infinity }, /commandTimeout must be/],
  ["a command timeout that is none", { commandTimeout: NaN }, /commandTimeout must be/],
  ["half a reserved connection", { maxReserved: 0.5 }, /maxReserved must be/],
  ["an empty namespace", { namespace: "" }, /the namespace must be/],
  ["an unknown scheme", { url: "http://localhost" }, /the URL is malformed/],
  ["two ways of naming Sentinels in a URL", { url: "redis://a?sentinel=b&cluster=true" }, /the URL is malformed/]
]

describe("RedisSettings", () => {
  it.effect.each(refused)("refuse %s", ([, settings, words]) =>
    Effect.gen(function*() {
      const all = { password: Redacted.make(marker), ...settings }
      for (const built of [Effect.asVoid(Layer.build(Redis.layer(all))), Layer.build(RedisClient.layer(all))]) {
        const error = yield* Effect.flip(Effect.scoped(built))
        assert.deepInclude(error, { _tag: "RedisError", command: "connect", reason: "connection", outcome: "NotSent" })
        assert.match(String(error), words)
        assert.notInclude(String(error), marker)
      }
    }))
})
