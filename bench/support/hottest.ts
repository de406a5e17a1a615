/** What a CPU profile says: where the time went, function by function and file by file. */
import type { Profiler } from "node:inspector"

/** The functions and the files that took most time themselves, as shares of the time in which there was work. */
export const hottest = ({ nodes, samples = [], timeDeltas = [] }: Profiler.Profile, most = 30): string => {
  const byId = new Map(nodes.map((node) => [node.id, node.callFrame]))
  const functions = new Map<string, number>()
  const files = new Map<string, number>()
  let busy = 0
  let all = 0
  for (const [i, id] of samples.entries()) {
    const { functionName, lineNumber, url } = byId.get(id)!
    const time = timeDeltas[i] ?? 0
    all += time
    if (functionName === "(idle)" || url === "node:inspector") continue
    busy += time
    const file = url.replace(/^.*\/(?:node_modules\/|dist\/|(?=bench\/))/, "") || functionName
    add(functions, url === "" ? functionName : `${functionName || "(anonymous)"}  ${file}:${lineNumber + 1}`, time)
    add(files, file.startsWith("node:") ? "node" : file, time)
  }
  const lines = (times: Map<string, number>) =>
    [...times].toSorted((a, b) => b[1] - a[1]).slice(0, most)
      .map(([name, time]) => `${(100 * time / busy).toFixed(1).padStart(5)} %  ${name}`)
  return [`${(100 * busy / all).toFixed(0)} % of the time busy`, ...lines(functions), "by file", ...lines(files)].join(
    "\n"
  )
}

const add = (times: Map<string, number>, name: string, time: number) => times.set(name, (times.get(name) ?? 0) + time)
