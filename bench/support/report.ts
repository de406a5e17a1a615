/** From samples to figures: medians, how many times better ours are, a table, lines of JSON. */
import type { Case, Figure, Sample } from "./case.ts"
import type { describeMachine } from "./preparation.ts"

/** What the measurements of one case found, by system. */
export interface Measured {
  readonly case: Case
  readonly samples: ReadonlyMap<string, ReadonlyArray<Sample>>
  readonly problems: ReadonlyArray<string>
}

/** What a run ran on. */
export type About = ReturnType<typeof describeMachine> & {
  readonly rounds?: number
  readonly smoke?: boolean
  readonly versions: Readonly<Record<string, string>>
}

export const median = (values: ReadonlyArray<number>): number => {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

const threeDigits = (value: number) => Number(value.toPrecision(3))

/** How many times better `ours` is: above 1 it is, whether more or less is better. */
const timesBetter = ({ better }: Figure, ours: number, other: number): number =>
  threeDigits(better === "more" ? ours / other : other / ours)

const mediansOf = (figure: Figure, samples: Measured["samples"]): ReadonlyMap<string, number> =>
  new Map([...samples].map(([system, each]) => [system, median(each.map(({ values }) => values[figure.id]!))]))

/** A line for each figure of the case, in the form that design.md names. */
export const figureLines = ({ case: { figures }, samples }: Measured): ReadonlyArray<string> =>
  figures.map((figure) => {
    const { floor = null, ours = null, ...peers } = Object.fromEntries(mediansOf(figure, samples))
    const others = { ...(floor === null ? {} : { floor }), ...peers }
    const vs = ours === null ? {} : Object.fromEntries(
      Object.entries(others).map(([system, value]) => [system, timesBetter(figure, ours, value)])
    )
    const { better, id, unit } = figure
    return JSON.stringify({ bench: id, unit, better, ours, floor, peers, vs })
  })

/** All samples of the case, by system. */
export const samplesLine = ({ case: { name }, samples }: Measured): string =>
  JSON.stringify({ samples: name, systems: Object.fromEntries(samples) })

export const header = (about: About): string =>
  [
    `commit ${about.commit}, Redis ${about.versions["redis-server"]}, Node ${about.node}, ${about.kernel}`,
    `${about.cores} cores of ${about.cpu}, ${about.memoryGb} GB`,
    Object.entries(about.versions).map(([name, version]) => `${name} ${version}`).join(", "),
    ...about.smoke === true ? ["a smoke run, which says nothing about speed"] : [],
    ...about.rounds === undefined ? [] : [`rounds: ${about.rounds}`],
    ""
  ].join("\n")

export const grouped = (value: number) => value.toLocaleString("en-US", { maximumFractionDigits: 2 })

/** A table of all figures, ours first, with the raw samples below. */
export const table = (results: ReadonlyArray<Measured>): string => results.map(section).join("\n")

const section = ({ case: { about, figures }, samples }: Measured): string =>
  figures.map((figure) => {
    const medians = mediansOf(figure, samples)
    const ours = medians.get("ours")
    const rows = [...samples].map(([system, each]) => {
      const values = each.map(({ values }) => values[figure.id]!)
      const { n } = each.at(-1)!
      return [
        system,
        grouped(medians.get(system)!),
        `${grouped(Math.min(...values))} - ${grouped(Math.max(...values))}`,
        ours === undefined || system === "ours" ? "" : `${grouped(timesBetter(figure, ours, medians.get(system)!))} x`,
        grouped(n),
        grouped(median(each.map(({ seconds }) => seconds))),
        grouped(median(each.map(({ clientCpu = 0 }) => clientCpu))),
        grouped(median(each.map(({ redisCpu = 0 }) => redisCpu))),
        grouped(median(each.map(({ commands = 0 }) => commands))),
        values.map(grouped).join("  ")
      ]
    })
    return [
      `${figure.id}, ${figure.unit}: ${figure.better} is better`,
      about,
      ...aligned([
        ["", "median", "from - to", "ours is", "n", "seconds", "client us", "Redis us", "commands", "samples"],
        ...rows
      ]),
      ""
    ].join("\n")
  }).join("\n")

/** The figures as tables in Markdown, one for each set of systems; in brackets, how many times better ours is. */
export const markdown = (results: ReadonlyArray<Measured>): string => {
  const tables = Map.groupBy(results, ({ case: { systems } }) => Object.keys(systems).join(" | "))
  const row = (cells: ReadonlyArray<string>) => `| ${cells.join(" | ")} |`
  return [...tables].map(([systems, results]) => {
    const names = systems.split(" | ")
    const cell = (figure: Figure, medians: ReadonlyMap<string, number>, system: string) => {
      const [ours, value] = [medians.get("ours"), medians.get(system)]
      if (value === undefined) return ""
      if (ours === undefined || system === "ours") return grouped(value)
      return `${grouped(value)} (${grouped(timesBetter(figure, ours, value))} x)`
    }
    return [
      row(["Figure", "Unit", ...names]),
      row(["---", "---", ...names.map(() => "---:")]),
      ...results.flatMap(({ case: { figures }, samples }) =>
        figures.map((figure) => {
          const medians = mediansOf(figure, samples)
          return row([`\`${figure.id}\``, figure.unit, ...names.map((system) => cell(figure, medians, system))])
        })
      ),
      ""
    ].join("\n")
  }).join("\n")
}

export const aligned = (rows: ReadonlyArray<ReadonlyArray<string>>): ReadonlyArray<string> => {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)))
  const last = widths.length - 1
  return rows.map((row) =>
    row.map((cell, column) =>
      column === 0 ? cell.padEnd(widths[0]!) : column === last ? cell : cell.padStart(widths[column]!)
    ).join("  ")
  )
}
