/** The server's INFO, as fields. */

/** Fields by name, as the server spells them. */
export type ServerInfo = Readonly<Record<string, string>>

/** Reads the text that INFO replies. */
export const parseInfo = (text: string): ServerInfo => {
  const fields: Record<string, string> = {}
  for (const line of text.split("\r\n")) {
    const colon = line.indexOf(":")
    if (colon > 0 && !line.startsWith("#")) fields[line.slice(0, colon)] = line.slice(colon + 1)
  }
  return fields
}
