/** TLS that does not come about, or breaks later: refused at once, with words that say what is wrong. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Redacted, Stream } from "effect"
import { readFileSync } from "node:fs"
import { writeFile } from "node:fs/promises"
import { createServer } from "node:net"
import { join } from "node:path"
import { RedisClient } from "../../src/RedisClient.ts"
import type { RedisSettings, TlsSettings } from "../../src/RedisConfig.ts"
import { type Certificates, certificates, type KeyPair } from "../support/certificates.ts"
import { freePort } from "../support/freePort.ts"
import { RedisServer } from "../support/redisServer.ts"

const build = (settings: RedisSettings) =>
  Effect.flatMap(Layer.build(RedisClient.layer(settings)), (context) => Effect.provide(RedisClient, context))

const refusal = (settings: RedisSettings) => Effect.flip(Effect.scoped(build(settings)))

const shown = ({ cert, key }: KeyPair) => ({ cert, key: Redacted.make(key) })

interface Case {
  readonly what: string
  readonly server?: (certs: Certificates) => KeyPair
  readonly tls: (certs: Certificates) => TlsSettings
  /** As docs/security.md has them. */
  readonly words: string
}

const ofTheServer = /; the server's certificate was not accepted: check REDIS_TLS_CA and REDIS_TLS_SERVERNAME/
const ofOurs =
  /; (our own certificate was not accepted: check|the server asks for a certificate of ours, and none was sent: set) REDIS_TLS_CERT and REDIS_TLS_KEY/
const security = readFileSync(join(import.meta.dirname, "../../docs/security.md"), "utf8")

const ofServers: ReadonlyArray<Case> = [
  {
    what: "has expired",
    server: (certs) => certs.expiredServer,
    tls: ({ ca }) => ({ ca }),
    words: "certificate has expired"
  },
  {
    what: "another authority has signed",
    server: (certs) => certs.strangerServer,
    tls: ({ ca }) => ({ ca }),
    words: "unable to verify the first certificate"
  },
  {
    what: "no authority that we know has signed",
    tls: () => ({}),
    words: "self-signed certificate in certificate chain"
  },
  {
    what: "an authority would have to sign that is no PEM",
    tls: () => ({ ca: "nonsense" }),
    words: "self-signed certificate in certificate chain"
  },
  {
    what: "bears another name",
    tls: ({ ca }) => ({ ca, servername: "redis.example.com" }),
    words: "does not match certificate's altnames"
  }
]

const ofClients: ReadonlyArray<Case> = [
  { what: "is missing", tls: ({ ca }) => ({ ca }), words: "alert certificate required" },
  {
    what: "has expired",
    tls: ({ ca, expiredServer }) => ({ ca, ...shown(expiredServer) }),
    words: "alert certificate expired"
  },
  {
    what: "was signed by an authority that the server does not know",
    tls: ({ ca, strangerServer }) => ({ ca, ...shown(strangerServer) }),
    words: "alert unknown ca"
  },
  {
    what: "goes with another key",
    tls: ({ ca, client, server }) => ({ ca, ...shown({ cert: client.cert, key: server.key }) }),
    words: "key values mismatch"
  }
]

const isRefused = ({ server: pick, tls, words }: Case, clients: "none" | "required") =>
  Effect.scoped(Effect.gen(function*() {
    assert.include(security, `\`${words}\``)
    const certs = yield* certificates
    const server = yield* RedisServer.start({
      tls: { certs, clients, ...(pick === undefined ? {} : { server: pick(certs) }) }
    })
    // The name counts, and an address does not get around it.
    for (const host of ["localhost", "127.0.0.1"]) {
      const error = yield* refusal({ host, port: server.tlsPort, tls: tls(certs) })
      assert.deepInclude(error, { command: "connect", reason: "connection", outcome: "NotSent" })
      assert.include(error.detail, words)
      assert.match(error.detail, clients === "none" ? ofTheServer : ofOurs)
      assert.notInclude(error.message, "PRIVATE KEY")
    }
  }))

describe("A server's certificate", () => {
  it.live.each(ofServers)("that $what is refused, and the error says so", (each) => isRefused(each, "none"))

  it.live("that expires while it is in use ends no connection but keeps new ones out, until it is renewed", () =>
    Effect.scoped(Effect.gen(function*() {
      const certs = yield* certificates
      const server = yield* RedisServer.start({ tls: { certs } })
      const client = yield* build({ url: server.tlsUrl!, tls: { ca: certs.ca }, commandTimeout: "2 seconds" })
      const ping = client.use("ping", (redis) => redis.ping(), { repeatable: true })
      const present = (pair: KeyPair) =>
        Effect.gen(function*() {
          yield* Effect.promise(() => writeFile(join(server.directory, "server.crt"), pair.cert))
          yield* Effect.promise(() => writeFile(join(server.directory, "server.key"), pair.key))
          yield* server.cli("CONFIG", "SET", "tls-cert-file", "server.crt", "tls-key-file", "server.key")
        })
      yield* present(certs.expiredServer)
      assert.strictEqual(yield* ping, "PONG")
      yield* server.cli("CLIENT", "KILL", "TYPE", "normal")
      const lost = client.states.pipe(
        Stream.filter((state) => state._tag === "Disconnected" && state.error !== undefined),
        Stream.take(1)
      )
      const [state] = yield* Stream.runCollect(lost)
      if (state?._tag !== "Disconnected") return assert.fail("it is still connected")
      assert.match(state.error!.detail, ofTheServer)
      const late = yield* Effect.flip(client.use("ping", (redis) => redis.ping(), { timeout: "20 millis" }))
      assert.match(late.detail, /certificate has expired/)
      yield* present(certs.server)
      assert.strictEqual(yield* ping, "PONG")
    })))
})

describe("Our own certificate", () => {
  it.live.each(ofClients)("that $what is refused, and the error says so", (each) => isRefused(each, "required"))

  it.live("is shown on every connection that a client opens", () =>
    Effect.scoped(Effect.gen(function*() {
      const certs = yield* certificates
      const server = yield* RedisServer.start({ tls: { certs, clients: "required" } })
      const client = yield* build({ url: server.tlsUrl!, tls: { ca: certs.ca, ...shown(certs.client) } })
      yield* client.reserve
      yield* client.duplicate()
      yield* client.subscribe("channel", "a", { onMessage: () => {} })
      assert.lengthOf(yield* server.clients(), 4)
    })))
})

describe("A port", () => {
  it.live("that speaks TLS refuses who does not, whether it asks for certificates or not", () =>
    Effect.scoped(Effect.gen(function*() {
      const certs = yield* certificates
      for (const clients of ["none", "required"] as const) {
        const server = yield* RedisServer.start({ tls: { certs, clients } })
        const error = yield* refusal({ port: server.tlsPort })
        assert.deepInclude(error, { command: "connect", reason: "connection", outcome: "NotSent" })
        // Once.
        assert.strictEqual(error.detail.split("REDIS_TLS").length, 2)
      }
    })))

  it.live("that does not speak TLS is not downgraded to: nothing is sent in the clear", () =>
    Effect.scoped(Effect.gen(function*() {
      const heard: Array<Buffer> = []
      const port = yield* Effect.promise(freePort)
      const server = createServer((socket) => {
        socket.on("error", () => {}).on("data", (bytes) => heard.push(bytes))
      })
      yield* Effect.acquireRelease(
        Effect.promise(() => new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve))),
        () => Effect.sync(() => server.close())
      )
      const url = Redacted.make(`rediss://:in-the-clear@127.0.0.1:${port}`)
      const error = yield* refusal({ url, tls: false, connectTimeout: "100 millis" })
      assert.deepInclude(error, { command: "connect", reason: "timeout", outcome: "NotSent" })
      assert.match(error.detail, /REDIS_TLS/)
      const sent = Buffer.concat(heard)
      // The first byte of a TLS handshake.
      assert.strictEqual(sent[0], 22)
      assert.notInclude(sent.toString("latin1"), "in-the-clear")
    })))
})
