/** How the ids of one batch stand in an event: shortly, where they were made together. */
// No id holds a control character.
const together = "\u0002"
/** In how many characters ids differ that were made together, at most; what is stored holds so many of each. */
const tailLength = 4

/**
 * Ids that differ in their ends only, with what they share written once; "" when they are no such ids. There is one for
 * each job that waits, so that this is a twentieth of what it takes.
 */
export const shortened = (ids: ReadonlyArray<string>): string => {
  const [first = ""] = ids
  const head = first.slice(0, -tailLength)
  if (ids.length < 2 || head === "") return ""
  let text = together + head + together
  for (const id of ids) {
    if (id.length !== first.length || !id.startsWith(head)) return ""
    text += id.slice(-tailLength)
  }
  return text
}

/** The parts of an event's text: ids, with what goes with each. */
export const readIds = (text: string): ReadonlyArray<string> => {
  if (!text.startsWith(together)) return text.split("\0")
  const end = text.indexOf(together, 1)
  const head = text.slice(1, end)
  const ids: Array<string> = []
  for (let at = end + 1; at < text.length; at += tailLength) ids.push(head + text.slice(at, at + tailLength))
  return ids
}
