/** Waiting for a turn: those who wait for the same limits in this process pass in the order in which they came. */
import { Clock, Deferred, Duration, Effect, Exit, Option } from "effect"
import { monotonicMillis } from "./monotonic.ts"
import type { Verdict } from "./rateLimitVerdict.ts"

/** What to ask, and how: `check` takes when it may, `peek` never does. */
interface Asking<E> {
  /** Who has the same one waits in one line. */
  readonly line: string
  readonly mostMillis: number
  readonly check: Effect.Effect<Verdict, E>
  readonly peek: Effect.Effect<Verdict, E>
}

/** Asks until the answer is yes, or it is clear that it will not be in time; the last answer says which. */
export type AskInLine = <E>(asking: Asking<E>) => Effect.Effect<Verdict, E>

export const makeLines = (): AskInLine => {
  // A Set keeps the order, and drops any in constant time.
  const lines = new Map<string, Set<Deferred.Deferred<void>>>()

  const join = (name: string) =>
    Effect.sync(() => {
      const turn = Deferred.makeUnsafe<void>()
      const line = lines.get(name)
      if (line === undefined) {
        lines.set(name, new Set([turn]))
        Deferred.doneUnsafe(turn, Exit.void)
      } else {
        line.add(turn)
      }
      return turn
    })

  const leave = (name: string, turn: Deferred.Deferred<void>) =>
    Effect.sync(() => {
      const line = lines.get(name)
      if (line === undefined || !line.delete(turn)) return
      const [next] = line
      if (next === undefined) lines.delete(name)
      // When the one that left was not the first, the first has its turn already, and this does nothing.
      else Deferred.doneUnsafe(next, Exit.void)
    })

  return <E>({ check, line, mostMillis, peek }: Asking<E>) =>
    Clock.clockWith((clock) => {
      const deadline = monotonicMillis(clock) + mostMillis
      const left = () => deadline - monotonicMillis(clock)

      const isLast = ({ allowed, retryAfter }: Verdict) => allowed || Duration.toMillis(retryAfter) > left()
      const goOn = (verdict: Verdict): Effect.Effect<Verdict, E> =>
        isLast(verdict) ? Effect.succeed(verdict) : Effect.andThen(Effect.sleep(verdict.retryAfter), askAgain)
      const askAgain = Effect.suspend(() => Effect.flatMap(check, goOn))

      const inTurn = (ask: Effect.Effect<Verdict, E>) =>
        Effect.acquireUseRelease(
          join(line),
          (turn) =>
            Effect.flatMap(
              Effect.timeoutOption(Deferred.await(turn), left()),
              Option.match({ onNone: () => Effect.map(peek, tooLate), onSome: () => ask })
            ),
          (turn) => leave(line, turn)
        )

      if (lines.has(line)) return inTurn(askAgain)
      return Effect.filterOrElse(check, isLast, (verdict) => inTurn(lines.has(line) ? askAgain : goOn(verdict)))
    })
}

// The limit may have room, but others were first.
const tooLate = (verdict: Verdict): Verdict => ({ ...verdict, allowed: false })
