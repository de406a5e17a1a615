/** All that can be measured. */
import { lockCases } from "./lock.ts"
import { pubSubCases } from "./pubsub.ts"
import { queueCases } from "./queue.ts"
import { rateLimitCases } from "./ratelimit.ts"
import { redisCases } from "./redis.ts"
import type { Case } from "./support/case.ts"

export const cases: ReadonlyArray<Case> = [
  ...queueCases,
  ...redisCases,
  ...lockCases,
  ...rateLimitCases,
  ...pubSubCases
]
