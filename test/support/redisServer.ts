/** Real Redis servers of a test's own, that it may kill, stop and restart. */
import { Effect, type Scope } from "effect"
import { execFileSync } from "node:child_process"
import { randomUUID } from "node:crypto"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import type { Certificates, KeyPair } from "./certificates.ts"
import { type Child, type Exited, spawnChild } from "./childProcess.ts"
import { findRedisServer } from "./findRedisServer.ts"
import { freePort } from "./freePort.ts"
import { type Reply, request } from "./resp.ts"

export interface RedisServerOptions {
  /** Further settings as on the command line, which win over ours: `["--maxmemory", "10mb"]`. */
  readonly args?: ReadonlyArray<string>
  /** To come up on a port known beforehand. Default: a free one. */
  readonly port?: number
  /** Opens a TLS port too. `server` is the server's certificate, `clients` whether they must show one (default: no). */
  readonly tls?: {
    readonly certs: Certificates
    readonly server?: KeyPair
    readonly clients?: "none" | "optional" | "required"
  }
  /** Users as ACL rules: `["default off", "app on >secret ~app:* +@all"]`. */
  readonly acl?: ReadonlyArray<string>
  /** The default user's password. */
  readonly password?: string
  /** Listens on a Unix socket too. */
  readonly unixSocket?: boolean
  /** Default: none. */
  readonly persistence?: "none" | "aof-always" | "aof-everysec"
  /** The password of `harnessUser`, where servers log in to each other. Default: one of its own. */
  readonly harnessSecret?: string
}

/** A line of CLIENT LIST by field. */
export type ClientInfo = Readonly<Record<string, string>>

export interface RedisServer {
  readonly host: "127.0.0.1"
  readonly port: number
  /** With the default user's password, if there is one. */
  readonly url: string
  readonly tlsPort: number | undefined
  readonly tlsUrl: string | undefined
  /** Path of the Unix socket. */
  readonly unix: string | undefined
  /** The server's working directory: its data, `ca.crt`, `client.crt`, `client.key`. */
  readonly directory: string
  /** As `[7, 0, 15]`. */
  readonly version: readonly [major: number, minor: number, patch: number]
  /** Of the process that runs now, or ran last. */
  readonly pid: number
  /** Paused and stopped as far as it was done through this handle, or the process has ended by itself. */
  readonly state: "running" | "paused" | "stopped"
  /** What the server has logged since its last start. */
  readonly log: string
  /** Sends a signal (default SIGKILL) and waits until the process is gone. */
  readonly kill: (signal?: NodeJS.Signals) => Effect.Effect<Exited>
  /** Starts again on the same port and data; a server that still runs is killed first. */
  readonly restart: Effect.Effect<void>
  /** Stops the process as it is: connections stay open, nothing answers. */
  readonly pause: Effect.Effect<void>
  readonly resume: Effect.Effect<void>
  /** Runs a command as a user of the harness, who may do anything whatever the ACL and passwords are. */
  readonly cli: (...command: ReadonlyArray<string | number>) => Effect.Effect<Reply>
  /** Who is connected, the harness itself left out. */
  readonly clients: (filter?: (client: ClientInfo) => boolean) => Effect.Effect<ReadonlyArray<ClientInfo>>
}

/** Starts a server for as long as the scope is open; then it is killed and its data are removed. Dies with the log. */
const start = (options: RedisServerOptions = {}): Effect.Effect<RedisServer, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.promise(() => launch(options)),
      ({ close }) => Effect.promise(close)
    ),
    ({ server }) => server
  )

export const RedisServer = { start }

/** Further settings of servers that replicate each other, and have the same `harnessSecret`. */
export const replicationSettings = (harnessSecret: string): Readonly<Record<string, string>> => ({
  masteruser: harnessUser,
  masterauth: harnessSecret,
  // Without a disk in between, Redis waits for more replicas first, and counts one as online that it may send nothing to
  // for another second. The files in between would be loaded at the next start.
  "repl-diskless-sync": "no",
  "rdb-del-sync-files": "yes"
})

export const isRunning = ({ state }: RedisServer): boolean => state === "running"

/** `cli` for code that waits in promises. Rejects on an error reply. */
export const tell = (server: RedisServer, ...command: ReadonlyArray<string | number>): Promise<Reply> =>
  Effect.runPromise(server.cli(...command))

/** May do anything on every server, whatever the ACL and passwords are. */
export const harnessUser = "test-harness"

const launch = async (options: RedisServerOptions) => {
  const binary = findRedisServer()
  if (binary === undefined) {
    throw new Error("No redis-server: install it (apt-get install redis-server), or name one in REDIS_SERVER_BIN")
  }
  const version = versionOf(binary)
  const secret = options.harnessSecret ?? randomUUID()
  const directory = await mkdtemp(join(tmpdir(), "redis-"))
  const unix = options.unixSocket === true ? join(directory, "redis.sock") : undefined
  let child: Child | undefined
  let paused = false
  let log = ""
  const close = async () => {
    await child?.kill("SIGKILL")
    // A background save that outlives its server may still write here.
    await rm(directory, { recursive: true, force: true, maxRetries: 5, retryDelay: 20 })
  }

  /** False when someone else sits on the port. */
  const boot = async (port: number, tlsPort: number | undefined): Promise<boolean> => {
    const args = [
      "redis.conf",
      "--port",
      String(port),
      ...(tlsPort === undefined ? [] : ["--tls-port", String(tlsPort)])
    ]
    const server = child = await spawnChild(binary, [...args, ...options.args ?? []], { cwd: directory, directory })
    paused = false
    log = ""
    for (const output of [server.process.stdout, server.process.stderr]) {
      output.on("data", (chunk) => log = `${log}${chunk}`.slice(-64_000))
    }
    const deadline = performance.now() + 10_000
    while (!server.hasExited()) {
      // The password of our own user tells this server from one that happens to answer on the port.
      const ready = request(port, [["AUTH", harnessUser, secret], ["PING"]], 1000).then(() => true, () => false)
      if (await ready) return true
      if (performance.now() > deadline) {
        await server.kill("SIGKILL")
        throw new Error(`redis-server does not answer on port ${port}:\n${log}`)
      }
      await sleep(5)
    }
    await server.closed
    if (log.includes("Address already in use")) return false
    throw new Error(`redis-server stopped at its start:\n${log}`)
  }

  /** Another worker may take a free port before our server does. */
  const bootSomewhere = async () => {
    for (let tries = 0; tries < 20; tries++) {
      const port = options.port ?? await freePort()
      const tlsPort = options.tls && await freePort()
      if (await boot(port, tlsPort)) return { port, tlsPort }
      if (options.port !== undefined) await sleep(50)
    }
    throw new Error(`redis-server finds no port to listen on:\n${log}`)
  }

  try {
    await writeFile(join(directory, "redis.conf"), configure(options, { secret, unix, version }))
    await writeCertificates(options.tls, directory)
    const { port, tlsPort } = await bootSomewhere()
    const credentials = options.password === undefined ? "" : `:${encodeURIComponent(options.password)}@`
    const cli: RedisServer["cli"] = (...command) =>
      Effect.promise(() => request(port, [["AUTH", harnessUser, secret], command]))
    const running = () => {
      if (child === undefined) throw new Error("redis-server was not started")
      return child
    }

    const server: RedisServer = {
      host: "127.0.0.1",
      port,
      url: `redis://${credentials}127.0.0.1:${port}`,
      tlsPort,
      tlsUrl: tlsPort === undefined ? undefined : `rediss://${credentials}127.0.0.1:${tlsPort}`,
      unix,
      directory,
      version,
      get pid() {
        return running().pid
      },
      get state() {
        if (running().hasExited()) return "stopped"
        return paused ? "paused" : "running"
      },
      get log() {
        return log
      },
      kill: (signal = "SIGKILL") => Effect.promise(() => running().kill(signal)),
      restart: Effect.promise(async () => {
        await running().kill("SIGKILL")
        for (let tries = 0; tries < 20; tries++) {
          if (await boot(port, tlsPort)) return
          await sleep(50)
        }
        throw new Error(`redis-server cannot come back on port ${port}:\n${log}`)
      }),
      pause: Effect.promise(() => {
        paused = true
        return running().pause()
      }),
      resume: Effect.sync(() => {
        running().resume()
        paused = false
      }),
      cli,
      clients: (filter = () => true) =>
        Effect.map(
          cli("CLIENT", "LIST"),
          (list) =>
            String(list).trim().split("\n").map(clientInfo).filter((client) =>
              client["user"] !== harnessUser && filter(client)
            )
        )
    }
    return { server, close }
  } catch (error) {
    await close()
    throw error
  }
}

const versionOf = (binary: string): RedisServer["version"] => {
  const [, major, minor, patch] =
    /v=(\d+)\.(\d+)\.(\d+)/.exec(execFileSync(binary, ["--version"], { encoding: "utf8" })) ?? []
  return [Number(major), Number(minor), Number(patch)]
}

const configure = (options: RedisServerOptions, own: {
  readonly secret: string
  readonly unix: string | undefined
  readonly version: RedisServer["version"]
}) => {
  const lines = [
    "bind 127.0.0.1",
    "save \"\"",
    options.persistence === undefined || options.persistence === "none"
      ? "appendonly no"
      : `appendonly yes\nappendfsync ${options.persistence === "aof-always" ? "always" : "everysec"}`,
    `user ${harnessUser} on >${own.secret} ~* &* +@all`,
    ...(options.acl ?? []).map((rules) => `user ${rules}`)
  ]
  // Redis 6 has DEBUG always on, and no such setting.
  if (own.version[0] >= 7) lines.push("enable-debug-command yes")
  if (options.password !== undefined) lines.push(`requirepass ${JSON.stringify(options.password)}`)
  if (own.unix !== undefined) lines.push(`unixsocket ${own.unix}`)
  if (options.tls !== undefined) {
    const clients = { none: "no", optional: "optional", required: "yes" }[options.tls.clients ?? "none"]
    lines.push(
      "tls-ca-cert-file ca.crt",
      "tls-cert-file server.crt",
      "tls-key-file server.key",
      `tls-auth-clients ${clients}`
    )
  }
  return lines.join("\n") + "\n"
}

const writeCertificates = async (tls: RedisServerOptions["tls"], directory: string) => {
  if (tls === undefined) return
  const server = tls.server ?? tls.certs.server
  const files = {
    "ca.crt": tls.certs.ca,
    "server.crt": server.cert,
    "server.key": server.key,
    "client.crt": tls.certs.client.cert,
    "client.key": tls.certs.client.key
  }
  await Promise.all(Object.entries(files).map(([name, pem]) => writeFile(join(directory, name), pem)))
}

const clientInfo = (line: string): ClientInfo =>
  Object.fromEntries(
    line.split(" ").map((field) => {
      const equals = field.indexOf("=")
      return [field.slice(0, equals), field.slice(equals + 1)]
    })
  )
