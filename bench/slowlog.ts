/**
 * Does everything there is to do to a queue in which a million jobs wait, and shows for how long each script held up the
 * server: `npm run slowlog`. Fails when one did for more than 5 ms. Arguments are beginnings of operations' names; without
 * one, all are done. `--smoke`, `--json`.
 */
import type { Redis } from "ioredis"
import { parseArgs } from "node:util"
import { onOwnServer } from "./support/ownServer.ts"
import { aligned, grouped } from "./support/report.ts"

const { positionals, values: options } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: "boolean", default: false },
    smoke: { type: "boolean", default: false }
  }
})
const share = options.smoke ? 0.01 : 1
const sizes = {
  waiting: 1_000_000 * share,
  delayed: 100_000 * share,
  active: 10_000 * share,
  failed: 100_000 * share,
  finished: 1_000_000 * share
}
const loggedFromMicros = 1000
const loggedAtMost = 100_000
const limitMicros = 5000
/** How often an operation is done at most: what is too slow is so each time, on a busy machine as on a quiet one. */
const attempts = 3

/** What one script did in one operation; times in microseconds. */
interface Row {
  readonly operation: string
  readonly script: string
  readonly calls: number
  /** The longest call, as the slow log has it: in real time, whatever else the machine did. 0: too short for the log. */
  readonly logged: number
  /** The longest call in CPU of the server; infinite when nobody knows. */
  readonly cpu: number
}

/** An entry of the slow log: id, when, microseconds, command. */
type Entry = readonly [number, number, number, ReadonlyArray<string>]

const isTooSlow = ({ cpu, logged }: Row) => Math.min(cpu, logged) > limitMicros

const measure = async (port: number, control: Redis): Promise<ReadonlyArray<Row>> => {
  await control.config("SET", "slowlog-log-slower-than", loggedFromMicros)
  await control.config("SET", "slowlog-max-len", loggedAtMost)
  // It can only be imported once the library was built.
  const { openOperations } = await import("./ours/operations.ts")
  const { calls, close, names, operations, prepare, restore, run } = await openOperations(port, sizes)

  const read = async (operation: string): Promise<ReadonlyArray<Row>> => {
    const entries = await control.slowlog("GET", loggedAtMost) as ReadonlyArray<Entry>
    const logged = new Map<string, number>()
    for (const [, , micros, [command, script]] of entries) {
      // Commands within scripts have entries of their own.
      if (!/^(?:evalsha|eval|fcall)$/i.test(command!)) continue
      const name = names.get(script!) ?? /^-- (\S+)/.exec(script!)?.[1] ?? script!
      logged.set(name, Math.max(micros, logged.get(name) ?? 0))
    }
    const called = calls()
    // A script that we know and have not called was that of another process.
    const unknown = [...logged.keys()].filter((script) => ![...names.values()].includes(script))
    return [...called.keys(), ...unknown].map((script) => ({
      operation,
      script,
      calls: called.get(script)?.count ?? 0,
      logged: logged.get(script) ?? 0,
      cpu: called.get(script)?.longest ?? Infinity
    }))
  }

  const rows: Array<Row> = []
  const isWanted = (name: string) => positionals.length === 0 || positionals.some((wanted) => name.startsWith(wanted))
  for (const operation of operations.filter(({ name }) => isWanted(name))) {
    let found: ReadonlyArray<Row> = []
    for (let i = 0; i === 0 || (i < attempts && found.some(isTooSlow)); i++) {
      await restore()
      await prepare(operation)
      await control.slowlog("RESET")
      calls()
      await run(operation)
      found = await read(operation.name)
      console.error(`${operation.name}: ${JSON.stringify(found)}`)
    }
    rows.push(...found)
  }
  await close()
  return rows
}

const cells = (title: string, row: Row, tooSlow: boolean) => [
  title,
  grouped(row.calls),
  row.logged === 0 ? `< ${loggedFromMicros / 1000}` : grouped(row.logged / 1000),
  row.cpu === Infinity ? "?" : grouped(row.cpu / 1000),
  tooSlow ? "TOO SLOW" : ""
]
const titles = (title: string) => [title, "calls", "longest, slow log: ms", "longest, CPU: ms", ""]

/** All rows, and below them each script with its longest. */
const table = (rows: ReadonlyArray<Row>): string => {
  const ofScript = (script: string, own: ReadonlyArray<Row>) =>
    cells(
      script,
      {
        operation: "",
        script,
        calls: own.reduce((sum, { calls }) => sum + calls, 0),
        logged: Math.max(...own.map(({ logged }) => logged)),
        cpu: Math.max(...own.map(({ cpu }) => cpu))
      },
      own.some(isTooSlow)
    )
  const scripts = [...Map.groupBy(rows, ({ script }) => script)].toSorted(([a], [b]) => a < b ? -1 : 1)
  return [
    ...aligned([
      titles("operation: script"),
      ...rows.map((row) => cells(`${row.operation}: ${row.script}`, row, isTooSlow(row)))
    ]),
    "",
    ...aligned([titles("script"), ...scripts.map(([script, own]) => ofScript(script, own))]),
    ""
  ].join("\n")
}

await onOwnServer(options, async ({ control, port }) => {
  if (!options.json) console.log(Object.entries(sizes).map(([state, count]) => `${grouped(count)} ${state}`).join(", "))
  const rows = await measure(port, control)
  if (options.json) { for (const row of rows) console.log(JSON.stringify({ ...row, isTooSlow: isTooSlow(row) })) }
  else console.log(table(rows))
  for (const { operation, script } of rows.filter(isTooSlow)) {
    console.error(`FAILED ${script} held up the server for more than ${limitMicros / 1000} ms in: ${operation}`)
    process.exitCode = 1
  }
})
