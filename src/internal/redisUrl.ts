/** Reads URLs and addresses that say where Redis is. */
import { Redacted, Result } from "effect"
import type { Address, RedisSettings } from "../RedisSettings.ts"

const urlForms = "redis://, rediss:// or unix://, like rediss://user:password@host:6379/0, with reserved characters " +
  "of user and password percent-encoded"

/** A whole number in decimal digits. */
export const wholeNumber = (from: number, to: number) => (text: string): number | undefined => {
  const number = /^\d{1,9}$/.test(text) ? Number(text) : undefined
  return number !== undefined && number >= from && number <= to ? number : undefined
}

/** `true` or `false`, in the words that people use for them. */
export const flag = (text: string): boolean | undefined =>
  ({ true: true, yes: true, on: true, 1: true, false: false, no: false, off: false, 0: false } as Record<
    string,
    boolean
  >)[text.toLowerCase()]

/** `host`, `host:port` or `[::1]:port`. */
export const parseAddress = (text: string): Address | undefined => {
  const [, name, inBrackets, portText] = /^(?:([^\s/@:,?#[\]]+)|\[([\da-f:.]+)\])(?::(\d{1,5}))?$/i.exec(text) ?? []
  const host = name ?? inBrackets
  const port = portText === undefined ? undefined : wholeNumber(1, 65_535)(portText)
  return host === undefined || (portText !== undefined && port === undefined)
    ? undefined
    : port === undefined
    ? { host }
    : { host, port }
}

/** Addresses with commas between them, at least one. */
export const parseAddresses = (text: string): ReadonlyArray<Address> | undefined => {
  const addresses = text.split(",").map((one) => parseAddress(one.trim()))
  return addresses.includes(undefined) ? undefined : addresses as ReadonlyArray<Address>
}

/** `inside:port=outside:port`, with commas between them. */
export const parseNatMap = (text: string): Readonly<Record<string, Address>> | undefined => {
  const entries = text.split(",").map((pair): [string, Address] | undefined => {
    const [inside = "", outside = "", ...rest] = pair.trim().split("=")
    const [from, to] = [parseAddress(inside), parseAddress(outside)]
    return from?.port === undefined || to?.port === undefined || rest.length > 0
      ? undefined
      : [`${from.host}:${from.port}`, to]
  })
  return entries.includes(undefined) ? undefined : Object.fromEntries(entries as Array<[string, Address]>)
}

/** What a URL says of a connection. The failure tells what is expected, and holds no part of the URL. */
export const fromUrl = (redacted: Redacted.Redacted | string): Result.Result<RedisSettings, string> => {
  const text = (typeof redacted === "string" ? redacted : Redacted.value(redacted)).trim()
  // URL knows no lists of hosts, and none with a port each.
  const [, before = "", hosts = "", after = ""] = /^([a-z]+:\/\/(?:[^/?#]*@)?)([^/?#@]*)(.*)$/is.exec(text) ?? []
  const [first = "", ...others] = hosts.split(",")
  const parts = URL.parse(before + first + after)
  if (parts === null) return Result.fail(urlForms)
  const scheme = parts.protocol
  if (scheme !== "redis:" && scheme !== "rediss:" && scheme !== "unix:") return Result.fail(urlForms)
  // What follows an unencoded `#` in a password.
  if (parts.hash !== "") return Result.fail(urlForms)
  const query = readQuery(parts, scheme === "unix:")
  if (Result.isFailure(query)) return Result.fail(query.failure)
  const { cluster, db, sentinel } = query.success
  const decoded = decodedParts(parts)
  if (decoded === undefined) return Result.fail(urlForms)
  const common: RedisSettings = {
    username: decoded.username === "" ? undefined : decoded.username,
    password: decoded.password === "" ? undefined : Redacted.make(decoded.password),
    db,
    ...(scheme === "rediss:" ? { tls: true } : {})
  }
  if (scheme === "unix:") {
    // `unix://tmp/redis.sock` names a host called tmp; credentials need one, which then is localhost.
    return decoded.path.length > 1 && hosts === parts.hostname && (hosts === "" || hosts === "localhost")
      ? Result.succeed({ ...common, path: decoded.path })
      : Result.fail("the absolute path of a socket after unix://, like unix:///run/redis.sock")
  }
  if (decoded.host === "" || parts.port === "0") return Result.fail(urlForms)
  if (others.length === 0 && !cluster && sentinel === undefined) {
    if (decoded.host.includes(",")) return Result.fail(urlForms)
    return Result.succeed({ ...common, host: decoded.host, port: parts.port === "" ? undefined : Number(parts.port) })
  }
  const nodes = parseAddresses(hosts)
  if (nodes === undefined) return Result.fail("hosts like host:6379, with commas between them")
  if (sentinel !== undefined) return Result.succeed({ ...common, sentinel: { name: sentinel, nodes } })
  return Result.succeed({ ...common, cluster: { nodes } })
}

const readQuery = (parts: URL, isSocket: boolean) => {
  const query = new Map(parts.searchParams)
  if (query.size !== parts.searchParams.size) return Result.fail("each query parameter once")
  const dbText = isSocket ? query.get("db") : parts.pathname.replace(/^\//, "") || query.get("db")
  const db = dbText === undefined || dbText === "" ? undefined : wholeNumber(0, 1_000_000)(dbText)
  if (dbText !== undefined && dbText !== "" && db === undefined) {
    return Result.fail("the number of a database after the host")
  }
  const clusterText = query.get("cluster")
  const cluster = clusterText === undefined ? false : flag(clusterText)
  if (cluster === undefined) return Result.fail("true or false for the query parameter cluster")
  const sentinel = query.get("sentinel")
  if (sentinel === "") return Result.fail("the master's name for the query parameter sentinel")
  if (sentinel !== undefined && cluster) return Result.fail("either cluster or sentinel, not both")
  for (const known of ["db", "cluster", "sentinel"]) query.delete(known)
  if (query.size > 0 || (isSocket && (cluster || sentinel !== undefined))) {
    return Result.fail(isSocket ? "no query parameter but db" : "no query parameters but db, cluster and sentinel")
  }
  return Result.succeed({ db, cluster, sentinel })
}

const decodedParts = ({ hostname, password, pathname, username }: URL) => {
  try {
    return {
      username: decodeURIComponent(username),
      password: decodeURIComponent(password),
      host: decodeURIComponent(hostname.replace(/^\[(.*)\]$/, "$1")),
      path: decodeURIComponent(pathname)
    }
  } catch {
    return undefined
  }
}
