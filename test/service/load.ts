/**
 * Two API and three worker processes on one Redis, with clients that post over HTTP, a worker that is killed at work and
 * an API that is restarted. Checks that nothing is lost and prints the figures:
 * `node test/service/load.ts [appointments] [clients]`.
 */
import { Effect, Exit, Scope } from "effect"
import { freePort } from "../support/freePort.ts"
import { RedisServer } from "../support/redisServer.ts"
import { appointment, call, eventually, mailServer, type Reply, start, type Watch, watchEvents } from "./support.ts"

export interface LoadOptions {
  readonly appointments: number
  readonly clients: number
}

export interface LoadReport {
  readonly figures: Readonly<Record<string, number | string>>
  /** What should not be. */
  readonly problems: ReadonlyArray<string>
}

const tenants = ["north", "south", "east", "west", "centre"]
const patientsPerTenant = 60
/** How long an SMTP server takes for a mail, so that a worker that is killed has some under way. */
const mailMillis = 30
const longestSecondRunMillis = 12_000

interface Accepted {
  readonly id: string
  readonly tenant: string
  readonly millis: number
}

/** Posts until it is answered, to another API when one does not answer. The Idempotency-Key makes it one appointment. */
const postOne = async (
  apis: ReadonlyArray<string>,
  client: number,
  n: number,
  retried: () => void
): Promise<Accepted> => {
  const tenant = tenants[n % tenants.length]!
  const body = JSON.stringify({
    ...appointment,
    tenant,
    patientId: `p-${Math.floor(n / tenants.length) % patientsPerTenant}`,
    email: `patient-${n}@example.com`,
    priority: n % 10
  })
  const headers = {
    "content-type": "application/json",
    "x-client-id": `client-${client}`,
    "idempotency-key": `n-${n}`
  }
  const began = performance.now()
  for (let tries = 0; tries < 50; tries++) {
    const reply: Reply | undefined = await Effect.runPromise(
      call(`${apis[(client + tries) % apis.length]}/appointments`, { method: "POST", headers, body })
    ).catch(() => undefined)
    if (reply?.status === 202) return { id: reply.body.id, tenant, millis: performance.now() - began }
    if (reply !== undefined && reply.status !== 503) throw new Error(`${reply.status}: ${reply.text}`)
    retried()
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  throw new Error(`Appointment ${n} was not accepted`)
}

const percentile = (sorted: ReadonlyArray<number>, part: number): number =>
  Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0)

/** Runs it all, and says what came of it. */
export const runLoad = ({ appointments, clients }: LoadOptions): Effect.Effect<LoadReport, never, Scope.Scope> =>
  Effect.gen(function*() {
    const redis = yield* RedisServer.start()
    const together = { REDIS_URL: redis.url, SERVICE_NAME: "load", POSTS_PER_MINUTE: "1000000" }
    // Each worker has a mail server of its own, which shows what it is doing.
    const servers = yield* Effect.forEach([1, 2, 3], () => mailServer({ delayMillis: mailMillis }))
    const [apis, workers] = yield* Effect.all([
      Effect.forEach([1, 2], () => startApi(together), { concurrency: "unbounded" }),
      Effect.forEach(servers, ({ url }) => start({ ...together, ROLE: "worker", SMTP_URL: url }), {
        concurrency: "unbounded"
      })
    ], { concurrency: "unbounded" })
    const [restarted, stays] = apis as [Api, Api]
    const watches = new Map<string, Watch>()
    for (const tenant of tenants) watches.set(tenant, yield* watchEvents(stays.address, tenant))

    const accepted: Array<Accepted> = []
    let next = 0
    let retries = 0
    const addresses = apis.map(({ address }) => address)
    const client = async (n: number) => {
      while (next < appointments) accepted.push(await postOne(addresses, n, next++, () => retries += 1))
    }
    const began = performance.now()
    const posting = Promise.all(Array.from({ length: clients }, (_, n) => client(n)))
    // Until it is awaited below.
    posting.catch(() => {})

    const killed = yield* Effect.promise(async () => {
      while (accepted.length < appointments / 2 || servers[0]!.underWay() === 0) {
        await new Promise((resolve) => setImmediate(resolve))
      }
      const underWay = servers[0]!.underWay()
      process.kill(workers[0]!.process.pid, "SIGKILL")
      return { at: Date.now(), underWay }
    })
    yield* restarted.process.kill("SIGTERM")
    yield* start({ ...together, ROLE: "api", PORT: restarted.port })
    yield* Effect.promise(() => posting)
    const postedMillis = performance.now() - began

    const settled = Effect.map(
      call(`${stays.address}/queue`),
      ({ body }) =>
        body.active + body.waiting + body.delayed === 0 && body.finished + body.failed >= appointments
          ? body
          : undefined
    )
    // When it does not come to rest, the counts say what is wrong.
    const counts = yield* eventually("Rest", settled, 60_000).pipe(
      Effect.catchDefect(() => Effect.map(call(`${stays.address}/queue`), ({ body }) => body))
    )
    const doneMillis = performance.now() - began
    // The last events are on their way.
    const changesOf = () =>
      Array.from(watches.values(), ({ notices }) => notices.filter(({ event }) => event === "status")).flat()
    yield* eventually(
      "The last events",
      Effect.sync(() =>
        changesOf().filter(({ data }) => data.status === "completed").length >= appointments ? true : undefined
      ),
      5000
    ).pipe(Effect.catchDefect(() => Effect.void))

    const problems: Array<string> = []
    const expect = (holds: boolean, problem: string) => {
      if (!holds) problems.push(problem)
    }

    const byId = new Map(accepted.map((one) => [one.id, one]))
    expect(byId.size === appointments, `${byId.size} jobs were accepted, of ${appointments} appointments`)
    expect(killed.underWay > 0, "the killed worker held no lease")
    for (const state of ["active", "waiting", "delayed", "failed"]) {
      expect(counts[state] === 0, `${counts[state]} jobs are ${state}`)
    }
    expect(counts.finished === appointments, `${counts.finished} jobs are finished`)

    // What a stream shows, by job.
    const seen = Map.groupBy(changesOf(), ({ data }) => data.jobId as string)
    for (const [tenant, { notices }] of watches) {
      for (const { data, event } of notices) {
        if (event === "missed") problems.push(`the stream of ${tenant} missed something (${data.reason})`)
        if (event !== "status") continue
        const { tenant: owner } = byId.get(data.jobId) ?? {}
        expect(data.tenant === tenant && owner === tenant, `the stream of ${tenant} shows a job of ${owner}`)
      }
    }
    const secondRuns: Array<number> = []
    const secondEnds: Array<number> = []
    let postponed = 0
    for (const { id } of accepted) {
      const changes = (seen.get(id) ?? []).map(({ data }) => data)
      const times = (status: string) => changes.filter((change) => change.status === status).length
      const leasedByKilled = times("retrying") > 0
      expect(times("completed") === 1, `the stream shows ${times("completed")} ends of job ${id}`)
      expect(changes[0]?.status === "queued" && changes.at(-1)?.status === "completed", `job ${id} is out of order`)
      // Each run is announced, and each but the last one goes back.
      expect(times("active") === times("queued") + times("retrying"), `the stream shows part of job ${id}`)
      postponed += times("queued") - 1
      if (leasedByKilled) {
        const taken = changes.findIndex(({ status }) => status === "retrying")
        secondRuns.push(changes.find(({ status }, i) => i > taken && status === "active").at - killed.at)
        secondEnds.push(changes.at(-1).at - killed.at)
      }
    }

    const mails = Map.groupBy(
      servers.flatMap(({ mails }) => mails),
      ({ source }) => /^Message-ID: <(\w[\w-]*)@/mi.exec(source)?.[1] ?? "unknown"
    )
    let twice = 0
    for (const { id } of accepted) {
      const count = mails.get(id)?.length ?? 0
      const leasedByKilled = (seen.get(id) ?? []).some(({ data }) => data.status === "retrying")
      if (count === 2 && leasedByKilled) twice += 1
      else expect(count === 1, `${count} mails were sent for job ${id}`)
    }
    expect(mails.size === appointments, `mails were sent for ${mails.size} jobs`)
    expect(secondRuns.length > 0, "no job of the killed worker was done again")
    const longest = Math.max(0, ...secondRuns)
    expect(longest <= longestSecondRunMillis, `a job of the killed worker ran again only after ${longest} ms`)

    const latencies = accepted.map(({ millis }) => millis).toSorted((a, b) => a - b)
    return {
      problems,
      figures: {
        appointments,
        clients,
        "accepted": byId.size,
        "posted again, to the other API": retries,
        "posting took, s": (postedMillis / 1000).toFixed(1),
        "appointments per second": Math.round(appointments / postedMillis * 1000),
        "answered within, ms (p50)": percentile(latencies, 0.5),
        "answered within, ms (p99)": percentile(latencies, 0.99),
        "all mails sent after, s": (doneMillis / 1000).toFixed(1),
        "mails": servers.reduce((sum, { mails }) => sum + mails.length, 0),
        "jobs with two mails": twice,
        "mails under way in the killed worker": killed.underWay,
        "jobs leased by the killed worker": secondRuns.length,
        "longest from the kill to the second run, ms": longest,
        "longest from the kill to the mail, ms": Math.max(0, ...secondEnds),
        "runs put off, as the patient's lock was busy": postponed,
        "status changes on the streams": changesOf().length,
        "jobs left active": counts.active
      }
    }
  })

interface Api extends Effect.Success<ReturnType<typeof start>> {
  readonly port: string
}

const startApi = (together: Record<string, string>) =>
  Effect.gen(function*() {
    const port = String(yield* Effect.promise(freePort))
    const api = yield* start({ ...together, ROLE: "api", PORT: port })
    return { ...api, port }
  })

if (import.meta.main) {
  const [appointments = 2000, clients = 20] = process.argv.slice(2).map(Number)
  const scope = Scope.makeUnsafe()
  const { figures, problems } = await Effect.runPromise(Scope.provide(runLoad({ appointments, clients }), scope))
  await Effect.runPromise(Scope.close(scope, Exit.void))
  for (const [name, figure] of Object.entries(figures)) console.log(`${name.padEnd(48)}${String(figure).padStart(8)}`)
  for (const problem of problems.slice(0, 20)) console.log(`PROBLEM: ${problem}`)
  console.log(problems.length === 0 ? "All checks hold." : `${problems.length} problems.`)
  process.exitCode = problems.length === 0 ? 0 : 1
}
