/** Random numbers that a seed brings back. */

export interface Random {
  /** From 0 to below 1. */
  readonly next: () => number
  /** A whole number from `least` to `most`. */
  readonly between: (least: number, most: number) => number
  readonly shuffle: <A>(items: ReadonlyArray<A>) => Array<A>
}

/** The generator known as mulberry32: 32 bits of state, enough to choose what to break. */
export const makeRandom = (seed: number): Random => {
  let state = seed | 0
  const next = () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  const between = (least: number, most: number) => least + Math.floor(next() * (most - least + 1))
  return {
    next,
    between,
    shuffle: (items) => {
      const out = [...items]
      for (let i = out.length - 1; i > 0; i--) {
        const j = between(0, i)
        const item = out[i]!
        out[i] = out[j]!
        out[j] = item
      }
      return out
    }
  }
}
