/** Work that goes in rounds: what comes while one is under way waits for its end, and is then begun together. */
import { Effect } from "effect"

interface Round {
  underWay: number
  readonly waiting: Set<() => void>
}

/** Runs `self` in the next round of `of`; or fails as `late` tells when that does not begin in so many milliseconds. */
export type InRound = <A, E>(
  of: string,
  self: Effect.Effect<A, E>,
  withinMillis: number,
  late: () => E
) => Effect.Effect<A, E>

/** Rounds of work, by what it is about. */
export const makeRounds = (): InRound => {
  const rounds = new Map<string, Round>()

  const enter = <E>(of: string, withinMillis: number, late: () => E): Effect.Effect<void, E> =>
    Effect.callback((resume) => {
      const round = rounds.get(of) ?? { underWay: 0, waiting: new Set() }
      rounds.set(of, round)
      const begin = () => {
        clearTimeout(timer)
        round.underWay++
        resume(Effect.void)
      }
      let timer: NodeJS.Timeout | undefined
      if (round.underWay === 0) return begin()
      const giveUp = () => {
        clearTimeout(timer)
        round.waiting.delete(begin)
      }
      round.waiting.add(begin)
      // Real time: the network does not wait for a test clock.
      timer = setTimeout(() => {
        giveUp()
        resume(Effect.fail(late()))
      }, withinMillis)
      return Effect.sync(giveUp)
    })

  const leave = (of: string) =>
    Effect.sync(() => {
      const round = rounds.get(of)
      if (round === undefined || --round.underWay > 0) return
      if (round.waiting.size === 0) rounds.delete(of)
      const next = [...round.waiting]
      round.waiting.clear()
      for (const begin of next) begin()
    })

  return (of, self, withinMillis, late) =>
    Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(
        restore(enter(of, withinMillis, late)),
        () => Effect.onExit(restore(self), () => leave(of))
      )
    )
}
