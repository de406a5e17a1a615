/**
 * Measures whether a job's cost stays flat as there is more of everything: `npm run growth`. Arguments are names of
 * curves; without one, all are measured. `--rounds N`, `--json`, `--smoke`. A whole run draws docs/queue-growth.svg.
 */
import { mkdirSync, writeFileSync } from "node:fs"
import { parseArgs } from "node:util"
import { type Curve, curves, measurePoint, type Values } from "./growthCases.ts"
import { draw, type Line } from "./support/chart.ts"
import { onOwnServer, withServer } from "./support/ownServer.ts"
import { type About, aligned, grouped, median } from "./support/report.ts"

const { positionals, values: options } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: "boolean", default: false },
    rounds: { type: "string" },
    smoke: { type: "boolean", default: false }
  }
})
const rounds = Number(options.rounds ?? (options.smoke ? 1 : 3))
const chosen = curves.filter(({ name }) => positionals.length === 0 || positionals.includes(name))
if (chosen.length === 0 || !(rounds >= 1)) {
  console.error(`Nothing to measure. There are:\n${curves.map(({ name }) => name).join("\n")}`)
  process.exit(2)
}
const picture = new URL("../docs/queue-growth.svg", import.meta.url)

/** A curve with the samples of each of its points. */
interface Measured {
  readonly curve: Curve
  readonly points: ReadonlyMap<number, ReadonlyArray<Values>>
}

const measure = async (): Promise<ReadonlyArray<Measured>> => {
  const samples = chosen.map((curve) => ({
    curve,
    points: new Map<number, Array<Values>>((options.smoke ? curve.smokeXs : curve.xs).map((x) => [x, []]))
  }))
  // Round by round, so that a slow minute of the machine is not one point's alone.
  for (let round = 1; round <= rounds; round++) {
    for (const { curve, points } of samples) {
      for (const [x, values] of points) {
        // On a new server: nothing that went before can slow it down.
        values.push(await withServer(({ control, port }) => measurePoint(control, port, curve.at(x, options.smoke))))
        console.error(`${curve.name} ${x} ${round}/${rounds}: ${JSON.stringify(values.at(-1))}`)
      }
    }
  }
  return samples
}

const medians = (samples: ReadonlyArray<Values>): Values =>
  Object.fromEntries(Object.keys(samples[0]!).map((figure) => [figure, median(samples.map((each) => each[figure]!))]))

const columns: Readonly<Record<string, string>> = {
  "enqueue.rate": "enqueue jobs/s",
  "enqueue.client": "client us",
  "enqueue.redis": "Redis us",
  "enqueue.commands": "commands",
  "drain.rate": "drain jobs/s",
  "drain.client": "client us",
  "drain.redis": "Redis us",
  "drain.commands": "commands",
  "pickup.p50": "pickup p50 us",
  "pickup.p99": "p99 us"
}

const table = ({ curve, points }: Measured): string => {
  const rows = [...points].map(([x, samples]) => [x, medians(samples)] as const)
  const figures = Object.keys(columns).filter((figure) => figure in rows[0]![1])
  const [first, last] = [rows[0]![1], rows.at(-1)![1]]
  const row = (title: string, value: (figure: string) => string) => [title].concat(figures.map(value))
  return [
    `${curve.name}: ${curve.about}`,
    ...aligned([
      row(curve.axis, (figure) => columns[figure]!),
      ...rows.map(([x, values]) => row(grouped(x), (figure) => grouped(values[figure]!))),
      row("last to first", (figure) => `${grouped(last[figure]! / first[figure]!)} x`)
    ]),
    ""
  ].join("\n")
}

const lines: ReadonlyArray<Line & { readonly of: (values: Values) => number }> = [
  { name: "enqueue: time", colour: 0, stroke: "solid", of: (values) => 1e6 / values["enqueue.rate"]! },
  { name: "enqueue: client CPU", colour: 0, stroke: "dashed", of: (values) => values["enqueue.client"]! },
  { name: "enqueue: Redis CPU", colour: 0, stroke: "dotted", of: (values) => values["enqueue.redis"]! },
  { name: "claim and acknowledge: time", colour: 1, stroke: "solid", of: (values) => 1e6 / values["drain.rate"]! },
  { name: "the same: client CPU", colour: 1, stroke: "dashed", of: (values) => values["drain.client"]! },
  { name: "the same: Redis CPU", colour: 1, stroke: "dotted", of: (values) => values["drain.redis"]! }
]

const pictureOf = (measured: ReadonlyArray<Measured>, { commit, cores, cpu, node, versions }: About): string =>
  draw({
    title: "What a job costs as there is more of everything",
    subtitle: `${new Date().toISOString().slice(0, 10)}, ${cores} cores of ${cpu} for clients and server, ` +
      `Redis ${versions["redis-server"]}, Node ${node}, commit ${commit}`,
    y: "microseconds per job",
    lines,
    panels: measured.map(({ curve, points }) => ({
      title: curve.title,
      x: curve.axis,
      xs: [...points.keys()],
      values: lines.map(({ of }) => [...points.values()].map((samples) => of(medians(samples))))
    }))
  })

await onOwnServer({ ...options, rounds }, async (_, about) => {
  const measured = await measure()
  for (const { curve, points } of options.json ? measured : []) {
    for (const [x, samples] of points) {
      console.log(JSON.stringify({ growth: curve.name, x, values: medians(samples), samples }))
    }
  }
  if (!options.json) console.log(measured.map(table).join("\n"))
  if (options.smoke || chosen.length < curves.length) return
  mkdirSync(new URL(".", picture), { recursive: true })
  writeFileSync(picture, pictureOf(measured, about))
})
