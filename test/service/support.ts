/** What the tests of the example service share: the service in processes, its clients, and an SMTP server. */
import { Effect, type Scope } from "effect"
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { SMTPServer } from "smtp-server"
import { NodeProcess } from "../support/processes.ts"

/** A folder of the test's own, removed afterwards. */
export const temporaryFolder: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "clinic-"))),
  (folder) => Effect.promise(() => rm(folder, { recursive: true, force: true }))
)

export type Environment = Readonly<Record<string, string>>

const main = new URL("../../examples/service/main.ts", import.meta.url)
const fromSource = new URL("../support/fromSource.ts", import.meta.url).href

/** `npm start` in a process of its own, without what our environment says of Redis and mails. */
export const launch = (environment: Environment) =>
  NodeProcess.start(main, {
    env: {
      REDIS_URL: undefined,
      REDIS_HOST: undefined,
      SMTP_URL: undefined,
      ROLE: undefined,
      NODE_OPTIONS: `--import ${fromSource}`,
      PORT: "0",
      ...environment
    }
  })

/** `launch`, until it is ready. `address` is empty for a worker. */
export const start = (environment: Environment) =>
  Effect.gen(function*() {
    const process = yield* launch(environment)
    yield* process.waitForLine("Ready.", 20_000)
    return { process, address: /Listening on (\S+)/.exec(process.output)?.[1] ?? "" }
  })

export const appointment = {
  tenant: "north",
  patientId: "p-1",
  patientName: "Ada Lovelace",
  email: "ada@example.com",
  at: "2031-05-06T09:30:00Z"
}

export interface Reply {
  readonly status: number
  readonly headers: Headers
  readonly body: any
  readonly text: string
}

/** A request, and its answer once it is whole. */
export const call = (url: string, init: RequestInit = {}): Effect.Effect<Reply> =>
  Effect.promise(async () => {
    const response = await fetch(url, { ...init, signal: AbortSignal.timeout(20_000) })
    const text = await response.text()
    const isJson = response.headers.get("content-type")?.includes("json") === true
    return { status: response.status, headers: response.headers, text, body: isJson ? JSON.parse(text) : undefined }
  })

export const post = (
  address: string,
  body: unknown = appointment,
  headers: Record<string, string> = {}
): Effect.Effect<Reply> =>
  call(`${address}/appointments`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: typeof body === "string" ? body : JSON.stringify(body)
  })

/** Looks until there is something to see. */
export const eventually = <A>(
  what: string,
  look: Effect.Effect<A | undefined>,
  withinMillis = 10_000
): Effect.Effect<A> =>
  Effect.promise(async (signal) => {
    const deadline = performance.now() + withinMillis
    while (!signal.aborted) {
      const found = await Effect.runPromise(look)
      if (found !== undefined) return found
      if (performance.now() > deadline) break
      await sleep(20)
    }
    throw new Error(`${what}: not within ${withinMillis} ms`)
  })

/** Waits for a job's status. */
export const jobIn = (address: string, id: string, status: string, withinMillis?: number): Effect.Effect<any> =>
  eventually(
    `Job ${id} ${status}`,
    Effect.map(call(`${address}/jobs/${id}`), ({ body }) => body?.status === status ? body : undefined),
    withinMillis
  )

/** The mails in a folder, by the id of their job. */
export const mailsIn = (folder: string): Effect.Effect<ReadonlyMap<string, ReadonlyArray<string>>> =>
  Effect.promise(async () => {
    const names = (await readdir(folder)).filter((name) => name.endsWith(".eml"))
    const byId = Map.groupBy(names, (name) => name.slice(0, name.indexOf(".")))
    const entries = Array.from(
      byId,
      async ([id, names]) => [id, await Promise.all(names.map((name) => readFile(join(folder, name), "utf8")))] as const
    )
    return new Map(await Promise.all(entries))
  })

/** Whoever watches a tenant. */
export interface Watch {
  /** All that came so far; comments of an event stream under the event `comment`. */
  readonly notices: ReadonlyArray<{ readonly event: string; readonly data?: any }>
  readonly hasEnded: () => boolean
}

/** The statuses that a job went through, as they were seen. */
export const statusesOf = ({ notices }: Watch, id: string): ReadonlyArray<string> =>
  notices.filter(({ data, event }) => event === "status" && data.jobId === id).map(({ data }) => data.status)

/** Waits until a job's last status was seen. */
export const seen = (watch: Watch, id: string, status: string, withinMillis?: number) =>
  eventually(
    `Status ${status} of ${id}`,
    Effect.sync(() => statusesOf(watch, id).includes(status) ? statusesOf(watch, id) : undefined),
    withinMillis
  )

/** Watches by server-sent events, until the scope closes. Listens when it returns. */
export const watchEvents = (address: string, tenant: string): Effect.Effect<Watch, never, Scope.Scope> =>
  Effect.gen(function*() {
    const notices: Array<{ readonly event: string; readonly data?: any }> = []
    let ended = false
    const signal = yield* Effect.abortSignal
    const response = yield* Effect.promise(() =>
      fetch(`${address}/events?tenant=${encodeURIComponent(tenant)}`, { signal })
    )
    if (response.status !== 200 || response.body === null) throw new Error(`${response.status} instead of a stream`)
    const read = async (body: ReadableStream<Uint8Array>) => {
      let rest = ""
      for await (const text of body.pipeThrough(new TextDecoderStream())) {
        const frames = (rest + text).split("\n\n")
        rest = frames.pop() ?? ""
        for (const frame of frames) {
          const [, event, data] = /^event: (.*)\ndata: (.*)$/.exec(frame) ?? []
          notices.push(event === undefined ? { event: "comment", data: frame } : { event, data: JSON.parse(data!) })
        }
      }
    }
    void read(response.body).catch(() => {}).finally(() => {
      ended = true
    })
    const watch: Watch = { notices, hasEnded: () => ended }
    yield* eventually("The stream", Effect.sync(() => notices.length > 0 ? true : undefined))
    return watch
  })

/** Watches over WebSocket, until the scope closes. Listens when it returns. */
export const watchSocket = (
  address: string,
  tenant: string
): Effect.Effect<Watch & { readonly closeCode: () => number | undefined }, never, Scope.Scope> =>
  Effect.gen(function*() {
    const notices: Array<{ readonly event: string; readonly data?: any }> = []
    let code: number | undefined
    const socket = new WebSocket(`${address.replace("http", "ws")}/ws?tenant=${encodeURIComponent(tenant)}`)
    socket.addEventListener("message", ({ data }) => notices.push(JSON.parse(data)))
    socket.addEventListener("close", (event) => code = event.code)
    yield* Effect.addFinalizer(() => Effect.sync(() => socket.close()))
    yield* eventually("The socket", Effect.sync(() => notices.length > 0 ? true : undefined))
    return { notices, hasEnded: () => code !== undefined, closeCode: () => code }
  })

/** An SMTP server that keeps what it takes. */
export interface MailServer {
  readonly url: string
  readonly mails: ReadonlyArray<{ readonly to: ReadonlyArray<string>; readonly source: string }>
  /** How many senders have named a recipient. */
  readonly asked: () => number
  /** How many of their mails are not taken yet. */
  readonly underWay: () => number
  /** Answers those who name a recipient; until it is called, with `hold`, they wait. */
  readonly letGo: () => void
}

/** Starts one, for the scope. `refuse` has it turn every recipient away, `hold` has it say nothing to them for now. */
export const mailServer = (
  options: { readonly refuse?: () => boolean; readonly hold?: boolean; readonly delayMillis?: number } = {}
): Effect.Effect<MailServer, never, Scope.Scope> =>
  Effect.gen(function*() {
    const mails: Array<{ readonly to: ReadonlyArray<string>; readonly source: string }> = []
    let asked = 0
    const sessions = new Set<string>()
    const gate = Promise.withResolvers<void>()
    if (options.hold !== true) gate.resolve()
    const server = new SMTPServer({
      authOptional: true,
      disabledCommands: ["STARTTLS"],
      onRcptTo: (_address, session, answer) => {
        asked += 1
        sessions.add(session.id)
        void gate.promise.then(() => sleep(options.delayMillis ?? 0)).then(() => {
          if (options.refuse?.() !== true) return answer()
          sessions.delete(session.id)
          answer(Object.assign(new Error("No such mailbox"), { responseCode: 550 }))
        })
      },
      onClose: ({ id }) => sessions.delete(id),
      onData: (stream, session, callback) => {
        let source = ""
        stream.setEncoding("utf8").on("data", (text: string) => source += text).on("end", () => {
          sessions.delete(session.id)
          mails.push({ to: session.envelope.rcptTo.map(({ address }) => address), source })
          callback(null)
        })
      }
    })
    // A sender that breaks off is part of the tests.
    server.on("error", () => {})
    yield* Effect.acquireRelease(
      Effect.promise(() => new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))),
      () => Effect.promise(() => new Promise<void>((resolve) => server.close(() => resolve())))
    )
    const address = server.server.address()
    const port = typeof address === "object" ? address?.port : undefined
    return {
      url: `smtp://127.0.0.1:${port}`,
      mails,
      asked: () => asked,
      underWay: () => sessions.size,
      letGo: () => gate.resolve()
    }
  })
