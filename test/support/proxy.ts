/** A TCP proxy that does to connections what networks do: delay, cut, swallow and refuse. */
import { Effect, type Scope } from "effect"
import { connect, createServer, type Socket } from "node:net"
import { freePort } from "./freePort.ts"

/** Requests go from the client to the server, replies (pushed messages too) back. */
export type Direction = "requests" | "replies"

export interface Proxy {
  readonly port: number
  /** redis://127.0.0.1:port */
  readonly url: string
  /** Connections open to clients now. */
  readonly connections: number
  /** Connections accepted since the start: how often clients have connected. */
  readonly accepted: number
  /** Connections that `cutAfterBytes` and `dropNextReply` have cut so far. */
  readonly severed: number
  /** Bytes arrive this much later, in order. `Infinity` holds them back until `restore`, or a shorter delay. */
  readonly delay: (millis: number, direction?: Direction | "both") => Effect.Effect<void>
  /** Resets all connections at once. What was under way is lost. New ones are accepted. */
  readonly cut: Effect.Effect<void>
  /**
   * Lets `bytes` more of one direction through on a connection, then cuts the first connection that reaches them, once.
   * What was let through does arrive: commands that are complete run, though their replies are lost.
   */
  readonly cutAfterBytes: (bytes: number, direction: Direction) => Effect.Effect<void>
  /**
   * From now on bytes vanish, ends of connections too, and connections stay open: a peer that died without a word. With
   * `of`, on those connections only that said so when they were opened, like a name that the client gave them.
   */
  readonly swallow: (direction: Direction | "both", of?: string) => Effect.Effect<void>
  /**
   * The next request (only one that contains `containing`, if given) runs, but its reply is lost and the connection
   * reset: the client cannot know. Replies to requests pipelined before it may be lost with it.
   */
  readonly dropNextReply: (containing?: string) => Effect.Effect<void>
  /** Refuses new connections; open ones go on. */
  readonly refuse: Effect.Effect<void>
  readonly accept: Effect.Effect<void>
  /** All is well again. Connections that lost bytes are reset, as they cannot go on. */
  readonly restore: Effect.Effect<void>
}

/** Starts a proxy in front of `target`, a `RedisServer` for instance. Closing the scope resets what is open. */
const start = (target: { readonly host?: string; readonly port: number }): Effect.Effect<Proxy, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.promise(() => launch(target)),
      ({ close }) => Effect.promise(close)
    ),
    ({ proxy }) => proxy
  )

export const Proxy = { start }

/** What happens to one direction of all connections. */
interface Rules {
  delayMillis: number
  /** What connections have said whose bytes vanish. */
  swallowsOf: string | undefined
}

/** One client's connection and ours to the server. */
interface Link {
  readonly client: Socket
  readonly upstream: Socket
  /** What the client said first. */
  opening: string
  /** Bytes are missing that the peers rely on. */
  lossy: boolean
  /** The reply that comes next must not arrive. */
  drops: boolean
  /** Cut, though the server may still be reading what it was sent. */
  severed: boolean
  /** Delivers what is due; `all`, what is not, too. */
  readonly flush: Array<(all: boolean) => void>
}

// More than this is not held back in memory: we stop reading, so that the sender feels it, as with any slow reader.
const maxHeldBytes = 1 << 20
const openingCharacters = 4096

const launch = async (target: { readonly host?: string; readonly port: number }) => {
  const rules: Record<Direction, Rules> = {
    requests: { delayMillis: 0, swallowsOf: undefined },
    replies: { delayMillis: 0, swallowsOf: undefined }
  }
  const links = new Set<Link>()
  let cutAfter: { readonly bytes: number; readonly direction: Direction; readonly seen: Map<Link, number> } | undefined
  let dropReplyTo: string | undefined
  let accepted = 0
  let severed = 0

  const cutOff = (link: Link, direction: Direction) => {
    severed += 1
    sever(link, direction)
  }

  const carry = (link: Link, direction: Direction) => {
    const [from, to] = direction === "requests" ? [link.client, link.upstream] : [link.upstream, link.client]
    const rule = rules[direction]
    const swallows = () => rule.swallowsOf !== undefined && link.opening.includes(rule.swallowsOf)
    const queue: Array<{ readonly due: number; readonly bytes: number; readonly deliver: () => void }> = []
    let held = 0
    let timer: NodeJS.Timeout | undefined

    const flush = (all: boolean) => {
      clearTimeout(timer)
      for (let next = queue[0]; next !== undefined && !to.writableNeedDrain; next = queue[0]) {
        const wait = all ? 0 : next.due - performance.now()
        if (wait > 0) {
          if (wait !== Infinity) timer = setTimeout(() => flush(false), Math.ceil(wait))
          break
        }
        queue.shift()
        held -= next.bytes
        next.deliver()
      }
      if (held < maxHeldBytes) from.resume()
    }
    link.flush.push(flush)
    const enqueue = (bytes: number, deliver: () => void) => {
      queue.push({ due: performance.now() + rule.delayMillis, bytes, deliver })
      held += bytes
      if (held >= maxHeldBytes) from.pause()
      flush(false)
    }

    from.on("data", (chunk: Buffer) => {
      if (link.severed) return
      if (direction === "requests" && link.opening.length < openingCharacters) link.opening += chunk.toString("latin1")
      if (swallows()) {
        link.lossy = true
        return
      }
      if (direction === "requests" && dropReplyTo !== undefined && chunk.includes(dropReplyTo)) {
        dropReplyTo = undefined
        link.drops = true
      }
      if (direction === "replies" && link.drops) return cutOff(link, direction)
      const room = roomFor(link, direction, chunk.length)
      enqueue(chunk.length, () => to.write(chunk.subarray(0, room)))
      if (room <= chunk.length) enqueue(0, () => cutOff(link, direction))
    })
    from.on("end", () => {
      if (swallows()) link.lossy = true
      else enqueue(0, () => to.end())
    })
    from.on("close", (failed) => {
      if (swallows()) link.lossy = true
      else if (failed && !link.severed) reset(to)
      if (link.client.destroyed && link.upstream.destroyed) links.delete(link)
    })
    to.on("drain", () => flush(false))
    to.on("close", () => clearTimeout(timer))
  }

  /** How many bytes may pass before the cut; infinitely many, mostly. */
  const roomFor = (link: Link, direction: Direction, length: number) => {
    if (cutAfter?.direction !== direction) return Infinity
    const seen = cutAfter.seen.get(link) ?? 0
    const room = cutAfter.bytes - seen
    if (room <= length) cutAfter = undefined
    else cutAfter.seen.set(link, seen + length)
    return room
  }

  const server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
    accepted += 1
    const upstream = connect({
      host: target.host ?? "127.0.0.1",
      port: target.port,
      allowHalfOpen: true,
      noDelay: true
    })
    const link: Link = { client, upstream, opening: "", lossy: false, drops: false, severed: false, flush: [] }
    links.add(link)
    // Each error is followed by a close, which is what matters here.
    for (const socket of [client, upstream]) socket.on("error", () => {})
    carry(link, "requests")
    carry(link, "replies")
  })
  const listen = (port: number) =>
    new Promise<boolean>((resolve, reject) => {
      const failed = (error: NodeJS.ErrnoException) => error.code === "EADDRINUSE" ? resolve(false) : reject(error)
      server.once("error", failed)
      server.listen(port, "127.0.0.1", () => {
        server.off("error", failed)
        resolve(true)
      })
    })
  let port = await freePort()
  while (!await listen(port)) port = await freePort()

  const cutAll = () => {
    for (const { client, upstream } of links) {
      reset(client)
      reset(upstream)
    }
  }
  const accept = async () => {
    if (!server.listening && !await listen(port)) throw new Error(`Someone else has taken the proxy's port ${port}`)
  }
  const set = (direction: Direction | "both", change: Partial<Rules>) => {
    for (const each of direction === "both" ? ["requests", "replies"] as const : [direction]) {
      Object.assign(rules[each], change)
    }
  }

  const proxy: Proxy = {
    port,
    url: `redis://127.0.0.1:${port}`,
    get connections() {
      return Array.from(links).filter(({ client }) => !client.destroyed).length
    },
    get accepted() {
      return accepted
    },
    get severed() {
      return severed
    },
    delay: (millis, direction = "both") => Effect.sync(() => set(direction, { delayMillis: millis })),
    cut: Effect.sync(cutAll),
    cutAfterBytes: (bytes, direction) =>
      Effect.sync(() => {
        cutAfter = { bytes, direction, seen: new Map() }
      }),
    swallow: (direction, of = "") => Effect.sync(() => set(direction, { swallowsOf: of })),
    dropNextReply: (containing = "") =>
      Effect.sync(() => {
        dropReplyTo = containing
      }),
    refuse: Effect.sync(() => {
      server.close()
    }),
    accept: Effect.promise(accept),
    restore: Effect.promise(async () => {
      set("both", { delayMillis: 0, swallowsOf: undefined })
      cutAfter = undefined
      dropReplyTo = undefined
      for (const link of links) {
        link.drops = false
        if (link.lossy) {
          reset(link.client)
          reset(link.upstream)
        } else {
          for (const flush of link.flush) flush(true)
        }
      }
      await accept()
    })
  }
  const close = async () => {
    server.close()
    cutAll()
  }
  return { proxy, close }
}

/** Cuts a connection so that what was passed on still arrives: a reset could overtake it. */
const sever = (link: Link, direction: Direction) => {
  link.severed = true
  if (direction === "requests" || link.drops) reset(link.client)
  else link.client.destroySoon()
  link.upstream.end()
}

const reset = (socket: Socket) => {
  if (!socket.destroyed) socket.resetAndDestroy()
}
