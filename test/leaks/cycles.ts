/** Opens and closes one thing a thousand times, some of them interrupted half-way, and tells what that left behind. */
import { Cause, Effect, Exit, Fiber, type Scope } from "effect"
import type { Redis as Client } from "ioredis"
import type { EventEmitter } from "node:events"
import { setImmediate as turn, setTimeout as sleep } from "node:timers/promises"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import type { RedisClient } from "../../src/RedisClient.ts"

/** What is opened and closed. */
export interface Thing {
  readonly name: string
  /** Opens what all cycles share, and what is meant to stay open after the first of them. */
  readonly open: Effect.Effect<Cycles, unknown, Scope.Scope>
}

export interface Cycles {
  /** Opens the thing in a scope of its own. */
  readonly cycle: (number: number) => Effect.Effect<unknown, unknown, Scope.Scope>
  /** The connection that they share, if they do. */
  readonly client?: RedisClient["Service"]
  /** What they hold that their closing should have let go, by name. */
  readonly held?: Effect.Effect<ReadonlyArray<string>, unknown>
}

/** How many there are at one moment, in this process and on the server, by kind and name. */
type Look = ReadonlyMap<string, number>

/** What the cycles of one thing left behind. */
export interface Report {
  readonly name: string
  /** What there was more of in the end than before. */
  readonly left: ReadonlyArray<string>
  /** Growth of the heap from one cycle to the next, in each stretch of cycles after the first. */
  readonly bytesPerCycle: ReadonlyArray<number>
  /** What should have been let go. */
  readonly held: ReadonlyArray<string>
}

const stretches = [200, 400, 600, 800, 1000]
const atOnce = 10

// What V8 compiles and learns while a program runs is on the heap, too, and would hide a leak of less than 300 bytes.
for (const flag of ["--expose-gc", "--no-opt", "--no-maglev", "--no-sparkplug", "--no-lazy-feedback-allocation"]) {
  setFlagsFromString(flag)
}
const collectGarbage: () => void = runInNewContext("gc")

/** The same for each seed. */
const randomFrom = (seed: number) => {
  let state = seed
  return (below: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor(state / 2 ** 32 * below)
  }
}

const listenersOf = (emitter: EventEmitter): number =>
  emitter.eventNames().reduce((sum, event) => sum + emitter.listenerCount(event), 0)

const look = async (observer: Client, client: Cycles["client"]): Promise<Look> => {
  // A call leaves the timer of its deadline, for all that come after it: so that it is there each time.
  if (client !== undefined) await Effect.runPromise(client.use("ping", (redis) => redis.ping()))
  const counts = new Map<string, number>([["listener of the process", listenersOf(process)]])
  if (client !== undefined) counts.set("listener of the client", listenersOf(client.raw))
  counts.set("pattern", Number(await observer.pubsub("NUMPAT")))
  const clients = String(await observer.client("LIST")).trim().split("\n")
  const names = [
    ...process.getActiveResourcesInfo().map((type) => `resource ${type}`),
    ...clients.map((line) => `connection ${/ name=(\S*)/.exec(line)?.[1]}`),
    ...(await observer.pubsub("CHANNELS")).map((channel) => `channel ${String(channel)}`)
  ]
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1)
  return counts
}

/** What there is more of than before, once what takes a moment to go had its time, like a socket that is closing. */
const leftSince = async (before: Look, observer: Client, client: Cycles["client"]): Promise<ReadonlyArray<string>> => {
  const deadline = performance.now() + 3000
  while (true) {
    const now = await look(observer, client)
    const more = Array.from(now).filter(([name, count]) => count > (before.get(name) ?? 0))
    if (more.length === 0 || performance.now() > deadline) {
      return more.map(([name, count]) => `${name}: ${count} instead of ${before.get(name) ?? 0}`)
    }
    await sleep(20)
  }
}

/** The least of several readings: what a single one finds besides is on its way out. */
const heapBytes = async (): Promise<number> => {
  let least = Infinity
  for (let reading = 0; reading < 5; reading++) {
    await sleep(10)
    await turn()
    collectGarbage()
    least = Math.min(least, process.memoryUsage().heapUsed)
  }
  return least
}

/** Keys of claims and of those who wait, and keys that nothing will ever remove. What a queue keeps stays. */
const keysLeft = async (observer: Client): Promise<ReadonlyArray<string>> => {
  const left: Array<string> = []
  for (const key of (await observer.keys("*")).toSorted()) {
    const isLeft = /:(leases|claims|sleepers|line|patience)$/.test(key) ||
      (!key.includes(":queue:") && await observer.pttl(key) === -1)
    if (isLeft) left.push(key)
  }
  return left
}

/** Runs the cycles of `thing` one after the other and at once, and interrupts every third at a random moment. */
export const cyclesOf = (thing: Thing, observer: Client, seed: number): Effect.Effect<Report, unknown> =>
  Effect.scoped(Effect.gen(function*() {
    const random = randomFrom(seed)
    const { client, cycle, held = Effect.succeed([]) } = yield* thing.open
    const interrupted = (number: number) =>
      Effect.gen(function*() {
        const fiber = yield* Effect.forkChild(Effect.scoped(cycle(number)))
        if (random(2) === 0) { for (let left = random(40); left > 0; left--) yield* Effect.yieldNow }
        else yield* Effect.promise(() => sleep(random(5)))
        yield* Fiber.interrupt(fiber)
        const exit = yield* Fiber.await(fiber)
        if (Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause)) yield* exit
      })
    const run = (from: number, to: number) =>
      Effect.forEach(
        Array.from({ length: to - from }, (_, i) => from + i),
        (number) => number % 3 === 2 ? interrupted(number) : Effect.scoped(cycle(number)),
        { concurrency: atOnce, discard: true }
      )

    const before = yield* Effect.promise(() => look(observer, client))
    const bytesPerCycle: Array<number> = []
    let done = 0
    let heap = 0
    for (const until of stretches) {
      yield* run(done, until)
      yield* Effect.promise(() => leftSince(before, observer, client))
      const now = yield* Effect.promise(heapBytes)
      if (done > 0) bytesPerCycle.push(Math.round((now - heap) / (until - done)))
      heap = now
      done = until
    }
    const left = yield* Effect.promise(() => leftSince(before, observer, client))
    const keys = yield* Effect.promise(() => keysLeft(observer))
    return { name: thing.name, left, bytesPerCycle, held: [...keys, ...yield* held] }
  }))
