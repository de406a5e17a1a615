/** Loops that send what a source yields. */

/** `callers` loops at once: each sends, waits, and takes the next item, until there is none. */
export const fromCallers = async <A>(
  callers: number,
  next: () => A | undefined,
  send: (item: A) => Promise<unknown>
): Promise<void> => {
  const caller = async () => {
    for (let item = next(); item !== undefined; item = next()) await send(item)
  }
  await Promise.all(Array.from({ length: callers }, caller))
}

/** A source that yields `make(0)`, `make(1)`, ... for some time, with a look at the clock for every `stride` items. */
export const forSeconds = <A>(seconds: number, make: (i: number) => A, stride = 16) => {
  const end = performance.now() + seconds * 1000
  let made = 0
  return {
    next: (): A | undefined => made % stride === 0 && performance.now() >= end ? undefined : make(made++),
    made: () => made
  }
}

/** A source that yields `make(0)` to `make(count - 1)`. */
export const counted = <A>(count: number, make: (i: number) => A): () => A | undefined => {
  let made = 0
  return () => made < count ? make(made++) : undefined
}

/** Asks again every 10 ms, and tells whether it came true within the time. */
export const comesTrue = async (condition: () => Promise<boolean>, withinMillis: number): Promise<boolean> => {
  const end = performance.now() + withinMillis
  while (!await condition()) {
    if (performance.now() > end) return false
    await pause(10)
  }
  return true
}

export const pause = (millis: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, millis))

/** The machine's monotonic clock; those of processes differ in their zero. */
export const microsNow = (): number => Number(process.hrtime.bigint()) / 1000

/** The value that a share `p` of all are not above. */
export const percentile = (values: ReadonlyArray<number>, p: number): number => {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * p))] ?? Number.NaN
}
