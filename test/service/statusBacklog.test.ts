/** What is published when publishers come and go: each change once, in order. */
import { assert, describe, it } from "vitest"
import type { Status, StatusChange } from "../../examples/service/domain.ts"
import { makeStatusBacklog } from "../../examples/service/statusBacklog.ts"

const change = (jobId: string, at = 1, status: Status = "queued"): StatusChange => ({ jobId, tenant: "t", status, at })

describe("the backlog of status changes", () => {
  it("gives out once, in order, what nobody has published, whichever news came first", () => {
    let calls = 0
    const backlog = makeStatusBacklog(() => calls += 1)
    backlog.published(change("early"))
    backlog.happened([change("a"), change("early"), change("b"), change("b", 1, "active")])
    backlog.published(change("a"))
    assert.deepStrictEqual(backlog.take(), [change("b"), change("b", 1, "active")])
    assert.deepStrictEqual(backlog.take(), [])
    assert.strictEqual(calls, 1)
    // The one that came early has met its counterpart, and is news again.
    backlog.happened([change("early")])
    assert.deepStrictEqual(backlog.take(), [change("early")])
  })

  it("gives out again what was given back, unless it was published after all", () => {
    const backlog = makeStatusBacklog(() => {})
    backlog.happened([change("a"), change("b")])
    const taken = backlog.take()
    backlog.published(change("b"))
    backlog.giveBack(taken)
    assert.deepStrictEqual(backlog.take(), [change("a")])
  })

  it("takes all for published when it cannot know", () => {
    const backlog = makeStatusBacklog(() => {})
    backlog.happened([change("a")])
    backlog.forget()
    assert.deepStrictEqual(backlog.take(), [])
  })

  it("lets go of what is a minute old", () => {
    const backlog = makeStatusBacklog(() => {})
    backlog.published(change("early", 1))
    backlog.happened([change("a", 1), change("b", 2)])
    backlog.happened([change("c", 60_001)])
    assert.deepStrictEqual(backlog.take(), [change("b", 2), change("c", 60_001)])
    backlog.happened([change("early", 1)])
    assert.deepStrictEqual(backlog.take(), [change("early", 1)])
  })
})
