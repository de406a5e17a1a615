/** Why a holder may have lost its jobs: what was done to it, and when. */
import type { History } from "./events.ts"

/**
 * Why a job started again though its earlier holder had not reported a failure. `stalled`: the holder heard nothing
 * from the server for long enough to lose its lease, though nothing was done to it: the machine was too slow.
 */
export type Reason = "killed" | "shut down" | "paused" | "cut off" | "stalled"

interface Span {
  readonly from: number
  to: number
}

/** What was done, by whom it hit. */
export interface Faults {
  /** Whether anything was done at all. */
  readonly any: boolean
  /** Why `process` may have lost what it held, when it had it no more at `to`; undefined when there is no reason. */
  readonly explain: (process: string, from: number, to: number) => Reason | undefined
}

// A silence that a cut has caused begins with the last thing heard before it.
const pulseMillis = 300

/** Reads what was done out of a history. Leases are renewed three times in each, so one missed renewal may cost it. */
export const faultsOf = (history: History, leaseMillis: number): Faults => {
  const proxies = new Map<string, number | undefined>()
  const killed = new Map<string, number>()
  const closing = new Map<string, number>()
  const pauses = new Map<string, Array<Span>>()
  const silences = new Map<string, Array<Span>>()
  const cuts: Array<{ readonly at: number; readonly proxy: number }> = []
  const outages = new Map<number, Span & { readonly proxy: number | undefined }>()
  const add = (spans: Map<string, Array<Span>>, process: string, from: number) => {
    const own = spans.get(process) ?? []
    own.push({ from, to: Infinity })
    spans.set(process, own)
  }
  const end = (spans: Map<string, Array<Span>>, process: string, to: number) => {
    for (const span of spans.get(process) ?? []) span.to = Math.min(span.to, to)
  }
  let any = false
  for (const entry of history) {
    switch (entry.kind) {
      case "joined":
        proxies.set(entry.process, entry.proxy)
        break
      case "killed":
        any = true
        killed.set(entry.process, entry.at)
        break
      case "closing":
        closing.set(entry.process, entry.at)
        break
      case "paused":
        any = true
        add(pauses, entry.process, entry.at)
        break
      case "resumed":
        end(pauses, entry.process, entry.at)
        break
      case "silent":
        add(silences, entry.by, entry.since)
        break
      case "reached":
        end(silences, entry.by, entry.at)
        break
      case "cut":
        any = true
        cuts.push({ at: entry.at, proxy: entry.proxy })
        break
      case "outage":
        any = true
        outages.set(entry.number, { from: entry.at, to: Infinity, proxy: entry.proxy })
        break
      case "restored": {
        const outage = outages.get(entry.number)
        if (outage !== undefined) outage.to = entry.at
      }
    }
  }

  const explain = (process: string, from: number, to: number): Reason | undefined => {
    const isLong = (span: Span) => Math.min(span.to, to) - Math.max(span.from, from) >= leaseMillis / 3
    const happened = (at: number | undefined) => at !== undefined && at >= from && at <= to
    if (happened(killed.get(process))) return "killed"
    if (happened(closing.get(process))) return "shut down"
    if (pauses.get(process)?.some(isLong)) return "paused"
    const proxy = proxies.get(process)
    const met = [...outages.values()].filter((outage) => outage.proxy === undefined || outage.proxy === proxy)
    if (met.some(isLong)) return "cut off"
    const silence = silences.get(process)?.find(isLong)
    if (silence === undefined) return undefined
    const isCause = (begin: number, end: number) => begin <= silence.to && end >= silence.from - pulseMillis
    return met.some((outage) => isCause(outage.from, outage.to)) ||
        cuts.some((cut) => cut.proxy === proxy && isCause(cut.at, cut.at))
      ? "cut off"
      : "stalled"
  }
  return { any, explain }
}
