/** What goes wrong in a run, and when: drawn from a seed, so that it can be played again. */
import { makeRandom, type Random } from "../support/history/random.ts"
import type { Cut } from "../support/history/trial.ts"

/** Who takes part: each keeps its place, whoever is killed there. The proxy is the one between it and the server. */
export const places = [
  { role: "producer", proxy: 0 },
  { role: "producer", proxy: 1 },
  { role: "worker", proxy: 0 },
  { role: "worker", proxy: 1 },
  { role: "worker", proxy: 1 },
  { role: "taker", proxy: 0 }
] as const

export type Fault =
  /** SIGKILL, and a new one in its place. */
  | { readonly kind: "kill"; readonly place: number }
  /** It is told to end, and a new one comes in its place. */
  | { readonly kind: "replace"; readonly place: number }
  | { readonly kind: "pause"; readonly place: number; readonly millis: number }
  | { readonly kind: "restart"; readonly downMillis: number }
  | { readonly kind: "cut"; readonly proxy: number; readonly how: Cut }
  | {
    readonly kind: "block"
    readonly proxy: number
    readonly how: "hold" | "swallow"
    readonly direction: "requests" | "replies" | "both"
    readonly millis: number
  }

export interface Planned {
  readonly atMillis: number
  readonly fault: Fault
}

/** In so many milliseconds each kind of fault comes as often as `handful` says, in an order of its own. */
const roundMillis = 10_000

const handful = (random: Random, leaseMillis: number): Array<Fault> => {
  const pick = <A>(...items: ReadonlyArray<A>): A => items[random.between(0, items.length - 1)]!
  const placeOf = (...roles: ReadonlyArray<typeof places[number]["role"]>) =>
    pick(...places.flatMap(({ role }, place) => roles.includes(role) ? [place] : []))
  const proxy = () => random.between(0, 1)
  const direction = () => pick("requests", "replies", "both" as const)
  const short = () => Math.round(leaseMillis * (0.2 + 0.5 * random.next()))
  const long = () => Math.round(leaseMillis * (1.3 + random.next()))
  const cut = (how: Cut): Fault => ({ kind: "cut", proxy: proxy(), how })
  return [
    { kind: "kill", place: placeOf("worker") },
    { kind: "kill", place: placeOf("worker", "taker") },
    { kind: "kill", place: placeOf("producer") },
    { kind: "replace", place: placeOf("worker", "taker") },
    { kind: "pause", place: placeOf("worker", "taker"), millis: long() },
    { kind: "pause", place: placeOf("worker", "producer"), millis: short() },
    { kind: "restart", downMillis: random.between(0, 600) },
    cut("now"),
    cut("now"),
    cut("reply"),
    cut("reply"),
    cut({ afterBytes: random.between(1, 20_000), direction: "requests" }),
    cut({ afterBytes: random.between(1, 20_000), direction: "replies" }),
    { kind: "block", proxy: proxy(), how: "hold", direction: direction(), millis: pick(short, long)() },
    { kind: "block", proxy: proxy(), how: "swallow", direction: direction(), millis: pick(short, long)() }
  ]
}

/** The faults of a run of so many seconds, in their order. */
export const plan = (seed: number, seconds: number, leaseMillis: number): ReadonlyArray<Planned> => {
  const random = makeRandom(seed)
  const planned: Array<Planned> = []
  // The first moments are for the processes to start in, and to have something to lose.
  for (let from = 1000; from < seconds * 1000; from += roundMillis) {
    const faults = random.shuffle(handful(random, leaseMillis))
    faults.forEach((fault, i) =>
      planned.push({
        atMillis: Math.round(from + (i + 0.8 * random.next()) * roundMillis / faults.length),
        fault
      })
    )
  }
  return planned.filter(({ atMillis }) => atMillis < seconds * 1000)
}
