/** Our everyday commands on a Cluster, with default options. */
import type { RedisAdapter } from "../redis.ts"
import type { Open } from "../support/case.ts"
import { openAt } from "./redis.ts"

export const open: Open<RedisAdapter> = (port) => openAt(`redis://127.0.0.1:${port}?cluster=true`)
