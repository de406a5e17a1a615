/** A picture of curves as SVG: panels, two in a row, with the same y axis and the same lines. */

/** A line's colour says what it is of, its stroke what of that. */
export interface Line {
  readonly name: string
  readonly colour: 0 | 1
  readonly stroke: "solid" | "dashed" | "dotted"
}

export interface Panel {
  readonly title: string
  /** What the logarithmic x axis shows. */
  readonly x: string
  readonly xs: ReadonlyArray<number>
  /** For each line, a value for each x. */
  readonly values: ReadonlyArray<ReadonlyArray<number>>
}

export interface Chart {
  readonly title: string
  /** Below the title: where and when. */
  readonly subtitle: string
  /** What the y axes show, with its unit. */
  readonly y: string
  readonly lines: ReadonlyArray<Line>
  readonly panels: ReadonlyArray<Panel>
}

const width = 860
const top = 104
const panel = { width: width / 2, height: 250, left: 58, right: 18, top: 30, bottom: 46 }
const plot = {
  width: panel.width - panel.left - panel.right,
  height: panel.height - panel.top - panel.bottom
}
const dashes = { solid: "none", dashed: "7 4", dotted: "2 3" }

const light = { paper: "#ffffff", ink: "#1f2328", faint: "#59636e", grid: "#d1d9e0", colours: ["#0969da", "#bc4c00"] }
const dark = { paper: "#0d1117", ink: "#f0f6fc", faint: "#9198a1", grid: "#3d444d", colours: ["#58a6ff", "#f0883e"] }

const inColours = ({ colours, faint, grid, ink, paper }: typeof light) =>
  [
    `.paper { fill: ${paper}; } text { fill: ${ink}; } .faint { fill: ${faint}; } .grid { stroke: ${grid}; }`,
    ...colours.map((colour, i) => `.line${i} { stroke: ${colour}; } .dot${i} { fill: ${colour}; }`)
  ].join("\n")

const style = `text { font: 12px system-ui, sans-serif; } .title { font-size: 17px; font-weight: 600; }
.panel { font-weight: 600; } .middle { text-anchor: middle; } .end { text-anchor: end; }
polyline, .key { fill: none; stroke-width: 2; }
${inColours(light)}
@media (prefers-color-scheme: dark) {
${inColours(dark)}
}`

export const draw = ({ lines, panels, subtitle, title, y }: Chart): string => {
  const height = top + panel.height * Math.ceil(panels.length / 2)
  const axis = axisFor(Math.max(...panels.flatMap(({ values }) => values.flat())))
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img" aria-label="${
      escape(title)
    }">`,
    `<style>\n${style}\n</style>`,
    `<rect class="paper" width="${width}" height="${height}"/>`,
    text(16, 28, title, "title"),
    text(16, 48, subtitle, "faint"),
    ...lines.map(legend),
    ...panels.map((each, i) =>
      `<g transform="translate(${(i % 2) * panel.width} ${top + Math.floor(i / 2) * panel.height})">` +
      `${drawPanel(each, { ...axis, name: y }, lines)}</g>`
    ),
    "</svg>",
    ""
  ].join("\n")
}

const legend = ({ colour, name, stroke }: Line, i: number): string => {
  const x = 16 + (i % 3) * 230
  const y = 72 + Math.floor(i / 3) * 18
  return `<path class="key line${colour}" stroke-dasharray="${dashes[stroke]}" d="M${x} ${y - 4}h28"/>` +
    text(x + 36, y, name)
}

const drawPanel = (
  { title, values, x, xs }: Panel,
  y: ReturnType<typeof axisFor> & { readonly name: string },
  lines: ReadonlyArray<Line>
) => {
  const [from, to] = [Math.log(xs[0]!), Math.log(xs.at(-1)!)]
  const atX = (x: number) => rounded(panel.left + (to > from ? (Math.log(x) - from) / (to - from) : 0.5) * plot.width)
  const atY = (value: number) => rounded(panel.top + plot.height * (1 - value / y.most))
  const bottom = panel.top + plot.height
  return [
    text(panel.left, 18, title, "panel"),
    ...y.ticks.map((tick) =>
      `<path class="grid" d="M${panel.left} ${atY(tick)}h${plot.width}"/>` +
      text(panel.left - 8, atY(tick) + 4, String(tick), "faint end")
    ),
    ...xs.map((x) => text(atX(x), bottom + 18, compact.format(x), "faint middle")),
    text(panel.left + plot.width / 2, bottom + 36, x, "middle"),
    `<g transform="translate(18 ${panel.top + plot.height / 2}) rotate(-90)">${text(0, 0, y.name, "middle")}</g>`,
    ...lines.map(({ colour, stroke }, i) => {
      const points = xs.map((x, j) => [atX(x), atY(values[i]![j]!)] as const)
      return `<polyline class="line${colour}" stroke-dasharray="${dashes[stroke]}" points="${points.join(" ")}"/>` +
        points.map(([x, y]) => `<circle class="dot${colour}" cx="${x}" cy="${y}" r="3"/>`).join("")
    })
  ].join("\n")
}

/** From 0 to `value` or a little more, in about four steps of 1, 2 or 5, by powers of ten. */
const axisFor = (value: number) => {
  const power = 10 ** Math.floor(Math.log10(value / 4))
  const step = power * ([1, 2, 5].find((factor) => factor * power >= value / 4) ?? 10)
  const count = Math.ceil(value / step)
  return { most: count * step, ticks: Array.from({ length: count + 1 }, (_, i) => rounded(i * step)) }
}

const text = (x: number, y: number, content: string, classes = "") =>
  `<text x="${x}" y="${y}"${classes === "" ? "" : ` class="${classes}"`}>${escape(content)}</text>`

const escape = (content: string) => content.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll("\"", "&quot;")

const compact = new Intl.NumberFormat("en-US", { notation: "compact" })

const rounded = (value: number) => Number(value.toFixed(3))
