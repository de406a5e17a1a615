/** Starts the example service as a new user does, on memory and on Redis, and uses it once from the request to the mail. */
import { Effect, Exit, Scope } from "effect"
import { type ChildProcess, spawn, spawnSync } from "node:child_process"
import { randomUUID } from "node:crypto"
import { once } from "node:events"
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { root, withoutRedis } from "./examples.ts"
import { freePort } from "./freePort.ts"
import { RedisServer } from "./redisServer.ts"

/** What is posted. The address is what the mail is recognised by. */
const email = `smoke-${randomUUID()}@example.com`
const appointment = {
  tenant: "smoke",
  patientId: "p-1",
  patientName: "Ada Lovelace",
  email,
  at: new Date(Date.now() + 86_400_000).toISOString()
}

let passed = 0
let failed = 0

/** One check; what it yields is there for the next ones, or undefined when it failed. */
const check = async <A>(name: string, body: () => Promise<A>): Promise<A | undefined> => {
  try {
    const value = await body()
    passed += 1
    console.log(`ok     ${name}`)
    return value
  } catch (error) {
    failed += 1
    console.log(`FAILED ${name}\n${error instanceof Error ? error.message : String(error)}`)
    return undefined
  }
}

const until = async <A>(
  within: number,
  what: string,
  look: () => Promise<A | undefined> | A | undefined
): Promise<A> => {
  const deadline = performance.now() + within
  for (;;) {
    const value = await look()
    if (value !== undefined) return value
    if (performance.now() > deadline) throw new Error(`${what}: not within ${within / 1000} s`)
    await sleep(50)
  }
}

interface Service {
  readonly child: ChildProcess
  readonly output: () => string
  readonly exited: Promise<unknown>
}

/** `npm start` in a process group of its own, so that nothing of it outlives this script. */
const start = (env: NodeJS.ProcessEnv): Service => {
  const child = spawn("npm", ["start"], { cwd: root, env, detached: true, stdio: ["ignore", "pipe", "pipe"] })
  let output = ""
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => output += text)
  }
  return { child, output: () => output, exited: once(child, "exit") }
}

const killGroup = ({ child }: Service) => {
  try {
    if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL")
  } catch {
    // Nothing of the group is left, as it should be.
  }
}

const answers = (address: string): Promise<boolean> => fetch(address).then(() => true, () => false)

const request = async (url: string, init?: RequestInit) => {
  const response = await fetch(url, { ...init, signal: AbortSignal.timeout(10_000) })
  return { status: response.status, body: await response.text() }
}

const expectStatus = (expected: number, reply: { readonly status: number; readonly body: string }) => {
  if (reply.status !== expected) throw new Error(`${reply.status} instead of ${expected}: ${reply.body}`)
}

/** Runs a line as it was printed. */
const curl = (line: string) => {
  const { status, stdout, stderr } = spawnSync("sh", ["-c", `exec ${line} -sS -w '\\n%{http_code}'`], {
    encoding: "utf8",
    timeout: 10_000
  })
  if (status !== 0 || !/\n2\d\d$/.test(stdout)) throw new Error(`${line}\n${stdout}${stderr}`)
}

const use = async (engine: string, environment: NodeJS.ProcessEnv, after: () => Promise<void>) => {
  const mail = await mkdtemp(join(tmpdir(), "mail-"))
  const port = String(await freePort())
  // Without SMTP_URL and ROLE, mails go to files and the one process does it all.
  const { SMTP_URL: _smtp, ROLE: _role, ...inherited } = withoutRedis()
  const service = start({ ...inherited, ...environment, PORT: port, MAIL_DIR: mail })
  try {
    const address = await check(
      `${engine}: npm start prints its address`,
      () =>
        until(30_000, `An address with port ${port}`, () => {
          if (service.child.exitCode !== null) throw new Error(`It ended:\n${service.output()}`)
          return new RegExp(`https?://[^\\s/'"]+:${port}`).exec(service.output())?.[0]
        })
    )
    if (address === undefined) return

    await check(`${engine}: POST /appointments answers 202`, async () => {
      await until(10_000, address, async () => await answers(`${address}/health/live`) || undefined)
      expectStatus(
        202,
        await request(`${address}/appointments`, {
          method: "POST",
          headers: { "content-type": "application/json", "x-client-id": "smoke" },
          body: JSON.stringify(appointment)
        })
      )
    })

    const mailTo = (posted: string) =>
      until(15_000, `An .eml file with ${posted}`, async () => {
        const names = (await readdir(mail)).filter((name) => name.endsWith(".eml"))
        const mails = await Promise.all(names.map((name) => readFile(join(mail, name), "utf8")))
        return mails.find((text) => text.includes(posted))
      })

    await check(`${engine}: an .eml file with the posted address is written`, () => mailTo(email))

    await check(`${engine}: GET /health/redis answers healthy`, async () => {
      const reply = await request(`${address}/health/redis`)
      expectStatus(200, reply)
      if (!/"status":\s*"healthy"/.test(reply.body)) throw new Error(reply.body)
    })

    await check(`${engine}: the three curl lines work as printed, and their appointment becomes a mail`, async () => {
      const lines = service.output().split("\n").map((line) => line.trim()).filter((line) => line.startsWith("curl "))
      if (lines.length !== 3) throw new Error(`${lines.length} lines with curl:\n${service.output()}`)
      lines.forEach(curl)
      const printed = /"email":"([^"]+)"/.exec(lines[0] ?? "")?.[1]
      if (printed === undefined) throw new Error(`The first line posts no address: ${lines[0]}`)
      await mailTo(printed)
    })

    await after()

    await check(`${engine}: ends within 10 s of SIGTERM`, async () => {
      service.child.kill("SIGTERM")
      const late = new AbortController()
      const end = await Promise.race([service.exited, sleep(10_000, "late", { signal: late.signal })])
      late.abort()
      // npm may be gone before what it started is.
      if (end === "late" || await answers(address)) throw new Error(`It still runs:\n${service.output()}`)
    })
  } finally {
    if (failed > 0) console.log(`What the service printed:\n${service.output()}`)
    killGroup(service)
    await rm(mail, { recursive: true, force: true })
  }
}

const onRedis = async () => {
  const scope = Scope.makeUnsafe()
  const server = await Effect.runPromise(Scope.provide(RedisServer.start(), scope))
  const namespace = `smoke-${randomUUID()}`
  await use("redis", { REDIS_URL: server.url, SERVICE_NAME: namespace }, async () => {
    await check("redis: its keys are there", async () => {
      const keys = await Effect.runPromise(server.cli("KEYS", `${namespace}:*`))
      if (!Array.isArray(keys) || keys.length === 0) throw new Error(`No key begins with ${namespace}:`)
    })
  })
  await Effect.runPromise(Scope.close(scope, Exit.void))
}

await use("memory", {}, async () => {})
await onRedis()
console.log(`${passed} passed, ${failed} failed`)
process.exitCode = failed === 0 ? 0 : 1
