/** ioredis, which sends together what is asked for in one turn. */
import { openWith } from "../floors/redis.ts"

/** @type {import("../support/case.ts").Open<import("../redis.ts").RedisAdapter>} */
export const open = (port) => openWith({ port, enableAutoPipelining: true })
