/** What a Cluster's servers answer when somebody else is in charge. */

/** Where a command has to go instead. */
export interface Redirection {
  /** `moved` for good; `ask` just this once, as the slot is being handed over. */
  readonly kind: "moved" | "ask"
  readonly slot: number
  /** Without a host when it is the same as that of the server that said so. */
  readonly address: string
}

/** What an error reply says of where to go, if it does. */
export const redirectionOf = (message: string): Redirection | undefined => {
  const [, word, slotText = "", address = ""] = /^(MOVED|ASK) (\d{1,5}) (\S+)$/.exec(message) ?? []
  const slot = Number(slotText)
  if (word === undefined || slot >= slotCount) return undefined
  return { kind: word === "MOVED" ? "moved" : "ask", slot, address }
}

/** Into how many slots a Cluster's keys fall. */
export const slotCount = 16_384
