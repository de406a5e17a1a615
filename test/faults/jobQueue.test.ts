/** Jobs survive whatever dies: workers, connections, replies, servers. */
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Layer, Schema, type Scope, Stream } from "effect"
import * as Job from "../../src/Job.ts"
import type { JobEvent } from "../../src/JobInfo.ts"
import { JobQueue, type JobQueueOptions } from "../../src/JobQueue.ts"
import { JobWorker, type JobWorkerOptions } from "../../src/JobWorker.ts"
import type { RedisClient } from "../../src/RedisClient.ts"
import { NodeProcess } from "../support/processes.ts"
import { Proxy } from "../support/proxy.ts"
import { eventually, queuesOnRedis, wait } from "../support/queuesOnRedis.ts"
import { RedisServer } from "../support/redisServer.ts"
import { sharedRedisUrl, uniqueNamespace } from "../support/sharedRedis.ts"
import { Work } from "../support/workJob.ts"

const Text = Job.make("text", { payload: Schema.String, success: Schema.String })

const work = (handlers: ReadonlyArray<Job.JobHandler<never>>, options?: JobWorkerOptions) =>
  Layer.build(JobWorker.layer(handlers, { shutdown: 50, poll: 20, ...options }))

const nothingIsLeft = (queue: Job.AnyJob, finished: number) =>
  Effect.gen(function*() {
    const jobs = yield* JobQueue
    yield* eventually("all are done", Effect.map(jobs.counts(queue), (counts) => counts.finished === finished))
    assert.include(yield* jobs.counts(queue), { waiting: 0, delayed: 0, active: 0, failed: 0 })
  })

describe("JobQueue in several processes", () => {
  /** Queues here, with a clock of the test's own, and workers in processes on the same keys. */
  const together = <A, E>(
    test: (
      start: (name: string, options?: JobWorkerOptions) => Effect.Effect<NodeProcess, never, Scope.Scope>,
      elapse: (duration: Duration.Input) => Effect.Effect<void>
    ) => Effect.Effect<A, E, JobQueue | RedisClient | Scope.Scope>,
    options?: JobQueueOptions
  ) =>
    Effect.suspend(() => {
      const namespace = uniqueNamespace()
      const clock = { offsetMillis: 0 }
      const fixture = new URL("../support/fixtures/jobProcess.ts", import.meta.url)
      return test(
        (name, options = {}) =>
          Effect.tap(
            NodeProcess.start(fixture, { args: [name, sharedRedisUrl(), namespace, JSON.stringify(options)] }),
            (child) => child.waitForLine("ready")
          ),
        (duration) =>
          Effect.sync(() => {
            clock.offsetMillis += Duration.toMillis(duration)
          })
      ).pipe(Effect.provide(queuesOnRedis({ namespace, clock, ...options })), Effect.scoped)
    })

  it.live("runs each job once, tells its steps and its result in another, and lets processes end", () =>
    together((start) =>
      Effect.gen(function*() {
        const queue = yield* JobQueue
        const children = yield* Effect.all([start("one"), start("two")], { concurrency: 2 })
        const events: Array<JobEvent> = []
        yield* Effect.forkScoped(
          Stream.runForEach(queue.events(Work), (event) => Effect.sync(() => events.push(event)))
        )
        yield* eventually(
          "events are live",
          Effect.gen(function*() {
            yield* queue.enqueue(Work, { kind: "echo", text: "probe" }, { id: "probe", delay: "1 hour" })
            yield* queue.remove(Work, "probe")
            return events.length > 0
          })
        )
        const texts = Array.from({ length: 300 }, (_, i) => `job ${i}`)
        const ids = yield* Effect.forEach(
          texts,
          (text) => queue.enqueue(Work, { kind: "echo", text }, { tenant: "t" }),
          {
            concurrency: 5
          }
        )
        const results = yield* Effect.forEach(ids, (id) => queue.result(Work, id, { within: "10 seconds" }), {
          concurrency: 50
        })
        results.forEach((result, i) => assert.match(result, new RegExp(`^${texts[i]} by (one|two)$`)))
        assert.deepStrictEqual(new Set(results.map((result) => result.slice(-3))), new Set(["one", "two"]))
        yield* nothingIsLeft(Work, 300)
        const started = children.flatMap((child) =>
          child.output.split("\n").filter((line) => line.startsWith("started"))
        )
        assert.sameMembers(started, texts.map((text) => `started ${text} attempt 1`))
        const isOver = () => events.filter(({ kind }) => kind === "completed").length === 300
        yield* eventually("all events", Effect.sync(isOver))
        for (const id of ids) {
          const own = events.filter((event) => event.id === id)
          assert.deepStrictEqual(own.map(({ kind }) => kind), ["queued", "active", "completed"])
          for (const event of own) assert.include(event, { tenant: "t", queue: "work" })
        }
        for (const child of children) {
          yield* child.send("close")
          assert.deepStrictEqual(yield* child.exit, { code: 0, signal: null })
        }
      })
    ))

  it.live("cancels what runs in another process: its handler is interrupted and its finalizers run", () =>
    together((start) =>
      Effect.gen(function*() {
        const queue = yield* JobQueue
        const child = yield* start("child", { shutdown: "50 millis" })
        const id = yield* queue.enqueue(Work, { kind: "hang", text: "x" })
        yield* child.waitForLine("started x")
        assert.strictEqual(yield* queue.cancel(Work, id, { reason: "no more" }), "requested")
        yield* child.waitForLine("interrupted x", 1000)
        yield* child.waitForLine("finalized x", 1000)
        const error = yield* Effect.flip(queue.result(Work, id, { within: "1 second" }))
        assert.include(error, { _tag: "JobCancelled", reason: "no more" })
        yield* nothingIsLeft(Work, 1)
        yield* queue.enqueue(Work, { kind: "hang", text: "y" })
        yield* child.waitForLine("started y")
        // What runs is given back, and the process ends by itself.
        yield* child.send("close")
        assert.deepStrictEqual(yield* child.exit, { code: 0, signal: null })
        assert.include(child.output, "finalized y")
        assert.include(yield* queue.counts(Work), { waiting: 1, active: 0 })
      })
    ))

  it.live("runs a killed worker's jobs elsewhere once their leases have passed, unless they kill again and again", () =>
    together((start, elapse) =>
      Effect.gen(function*() {
        const queue = yield* JobQueue
        const child = yield* start("victim", { lease: "1 second", concurrency: 3 })
        const ids = yield* Effect.forEach(["a", "b", "c", "d"], (text) => queue.enqueue(Work, { kind: "hang", text }))
        for (const text of ["a", "b", "c"]) yield* child.waitForLine(`started ${text}`)
        yield* child.kill("SIGKILL")
        const seen: Array<string> = []
        yield* work([
          Work.handler(({ text }, { attempt }) => Effect.sync(() => (seen.push(`${text} ${attempt}`), text)))
        ])
        assert.strictEqual(yield* queue.result(Work, ids[3]!, { within: "5 seconds" }), "d")
        yield* elapse("1 second")
        for (const [i, text] of ["a", "b", "c"].entries()) {
          assert.strictEqual(yield* queue.result(Work, ids[i]!, { within: "5 seconds" }), text)
        }
        assert.sameMembers(seen, ["d 1", "a 1", "b 1", "c 1"])
        yield* nothingIsLeft(Work, 4)
      })
    ))

  it.live("makes a job that has killed its workers too often a dead letter", () =>
    together((start, elapse) =>
      Effect.gen(function*() {
        const queue = yield* JobQueue
        const id = yield* queue.enqueue(Work, { kind: "hang", text: "x" })
        for (const name of ["first", "second"]) {
          const child = yield* start(name)
          yield* child.waitForLine("started x attempt 1")
          yield* child.kill("SIGKILL")
          yield* elapse("10 seconds")
          // Whoever takes the next step takes the job back.
          yield* queue.pause(Work)
          yield* queue.take(Work, 1)
          yield* queue.resume(Work)
        }
        const error = yield* Effect.flip(queue.result(Work, id, { within: "5 seconds" }))
        assert.include(error, { _tag: "JobFailed", reason: "crashed" })
        assert.include(yield* queue.counts(Work), { active: 0, failed: 1 })
      }), { maxCrashes: 2 }))

  it.live("refuses what a worker says that was stopped for longer than its lease", () =>
    together((start, elapse) =>
      Effect.gen(function*() {
        const queue = yield* JobQueue
        const child = yield* start("late", { poll: "50 millis" })
        const id = yield* queue.enqueue(Work, { kind: "gate", text: "x" })
        yield* child.waitForLine("started x")
        yield* child.pause
        yield* elapse("10 seconds")
        const [current] = yield* queue.take(Work, 1)
        assert.include(current, { id, attempt: 1 })
        yield* child.send("open")
        yield* child.resume
        yield* child.waitForLine("finalized x")
        yield* wait(100)
        assert.include(yield* queue.counts(Work), { active: 1, finished: 0 })
        yield* current!.complete("by the second")
        assert.strictEqual(yield* queue.result(Work, id, { within: "1 second" }), "by the second")
        yield* nothingIsLeft(Work, 1)
        // And it goes on with what comes next.
        const next = yield* queue.enqueue(Work, { kind: "echo", text: "next" })
        assert.strictEqual(yield* queue.result(Work, next, { within: "5 seconds" }), "next by late")
      })
    ))
})

describe("JobQueue on a bad connection", () => {
  const through = <A, E>(
    test: (
      proxy: Proxy,
      server: RedisServer,
      clock: { offsetMillis: number }
    ) => Effect.Effect<A, E, JobQueue | RedisClient | Scope.Scope>,
    options?: JobQueueOptions
  ) =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start()
      const proxy = yield* Proxy.start(server)
      const clock = { offsetMillis: 0 }
      return yield* Effect.provide(test(proxy, server, clock), queuesOnRedis({ url: proxy.url, clock, ...options }))
    }).pipe(Effect.scoped)

  it.live("stores a job once when the reply to its enqueueing is lost", () =>
    through((proxy) =>
      Effect.gen(function*() {
        const queue = yield* JobQueue
        yield* queue.enqueue(Text, "first")
        yield* proxy.dropNextReply("marker one")
        yield* queue.enqueue(Text, "marker one")
        yield* proxy.dropNextReply("marker two")
        const ids = yield* queue.enqueueAll(Text, ["marker two", "a", "b"])
        yield* proxy.dropNextReply("marker three")
        yield* queue.enqueue(Text, "marker three", { id: "own" })
        assert.strictEqual(yield* queue.size(Text), 6)
        const jobs = yield* queue.take(Text, 10)
        assert.deepStrictEqual(jobs.map(({ payload }) => payload), [
          "first",
          "marker one",
          "marker two",
          "a",
          "b",
          "marker three"
        ])
        assert.deepStrictEqual(jobs.slice(2, 5).map(({ id }) => id), ids)
      })
    ))

  it.live("lets a holder say again what it cannot know to have been heard", () =>
    through((proxy) =>
      Effect.gen(function*() {
        const queue = yield* JobQueue
        yield* queue.enqueueAll(Text, ["a", "b"])
        const [a, b] = yield* queue.take(Text, 2)
        yield* proxy.dropNextReply("the result of a")
        const lost = yield* Effect.flip(a!.complete("the result of a"))
        assert.include(lost, { _tag: "RedisError", outcome: "Unknown" })
        yield* a!.complete("the result of a")
        assert.include(yield* Effect.flip(a!.complete("again")), { _tag: "LeaseLost" })
        assert.strictEqual(yield* queue.result(Text, a!.id, { within: "1 second" }), "the result of a")
        yield* proxy.cutAfterBytes(20, "requests")
        assert.include(yield* Effect.flip(b!.complete("the result of b")), { _tag: "RedisError" })
        yield* b!.complete("the result of b")
        assert.strictEqual(yield* queue.result(Text, b!.id, { within: "1 second" }), "the result of b")
        yield* nothingIsLeft(Text, 2)
      })
    ))

  it.live("completes all jobs though the connection is cut again and again", () =>
    through((proxy, _, clock) =>
      Effect.gen(function*() {
        const queue = yield* JobQueue
        const runs = new Map<string, number>()
        yield* work([
          Text.handler((text) =>
            Effect.gen(function*() {
              runs.set(text, (runs.get(text) ?? 0) + 1)
              yield* wait(Number(text) % 3)
              return text
            })
          )
        ], { concurrency: 20 })
        const ids = yield* queue.enqueueAll(Text, Array.from({ length: 1000 }, (_, i) => String(i)))
        for (let round = 0; round < 6; round++) {
          yield* wait(20)
          if (round % 3 === 0) yield* proxy.cut
          else if (round % 3 === 1) yield* proxy.dropNextReply("evalsha")
          else yield* proxy.cutAfterBytes(500, "replies")
        }
        // What was claimed by a step whose reply was lost is nobody's until its lease has passed.
        const isOver = Effect.map(queue.counts(Text), ({ finished }) => finished === 1000)
        const isOrphaned = Effect.map(queue.counts(Text), ({ active, waiting }) => waiting === 0 && active <= 60)
        yield* eventually("only orphans are left", isOrphaned)
        yield* wait(50)
        if (!(yield* isOver)) clock.offsetMillis += 10_000
        yield* nothingIsLeft(Text, 1000)
        assert.strictEqual(runs.size, 1000)
        const results = yield* Effect.forEach(ids, (id) => queue.result(Text, id, { within: "1 second" }), {
          concurrency: 100
        })
        assert.deepStrictEqual(results, ids.map((_, i) => String(i)))
      }), { maxCrashes: 10 }))

  it.live("waits for a server that does not answer, and loses nothing", () =>
    through((proxy) =>
      Effect.gen(function*() {
        const queue = yield* JobQueue
        yield* work([Text.handler(Effect.succeed)])
        const first = yield* queue.enqueue(Text, "first")
        assert.strictEqual(yield* queue.result(Text, first, { within: "1 second" }), "first")
        yield* proxy.delay(Infinity, "replies")
        const enqueueing = yield* Effect.forkChild(queue.enqueue(Text, "second"))
        yield* wait(150)
        yield* proxy.restore
        const second = yield* Fiber.join(enqueueing)
        assert.strictEqual(yield* queue.result(Text, second, { within: "5 seconds" }), "second")
        yield* nothingIsLeft(Text, 2)
      })
    ))

  it.live("goes on after the server has forgotten all scripts", () =>
    through((_, server) =>
      Effect.gen(function*() {
        const queue = yield* JobQueue
        let runs = 0
        yield* work([Text.handler((text) => Effect.as(Effect.andThen(wait(1), Effect.sync(() => runs++)), text))])
        const ids: Array<string> = []
        for (let round = 0; round < 10; round++) {
          ids.push(...(yield* queue.enqueueAll(Text, Array.from({ length: 20 }, () => "x"))))
          yield* server.cli("SCRIPT", "FLUSH")
          ids.push(yield* queue.enqueue(Text, "y"))
          yield* queue.list(Text, { state: "waiting" })
        }
        yield* Effect.forEach(ids, (id) => queue.result(Text, id, { within: "5 seconds" }), { concurrency: 20 })
        assert.strictEqual(runs, ids.length)
        yield* nothingIsLeft(Text, ids.length)
      })
    ))
})

describe("JobQueue on a server that is killed", () => {
  it.live("has all jobs that it has acknowledged, when the server writes each down", () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.start({ persistence: "aof-always" })
      const clock = { offsetMillis: 0 }
      yield* Effect.gen(function*() {
        const queue = yield* JobQueue
        const runs = new Set<string>()
        yield* work([Text.handler((text) => Effect.as(Effect.sync(() => runs.add(text)), text))], { concurrency: 5 })
        const acknowledged = new Map<string, string>()
        const producing = { stop: false }
        const producers = Array.from({ length: 10 }, (_, producer) =>
          Effect.gen(function*() {
            for (let i = 0; !producing.stop; i++) {
              const text = `${producer} ${i}`
              yield* Effect.matchEffect(queue.enqueue(Text, text), {
                onSuccess: (id) => Effect.sync(() => acknowledged.set(id, text)),
                onFailure: () => wait(20)
              })
            }
          }))
        const fiber = yield* Effect.forkChild(Effect.all(producers, { concurrency: "unbounded" }))
        for (let round = 0; round < 2; round++) {
          yield* wait(80)
          yield* server.restart
        }
        yield* wait(80)
        producing.stop = true
        yield* Fiber.join(fiber)
        clock.offsetMillis += 20_000
        assert.isAbove(acknowledged.size, 20)
        yield* eventually(
          "all are done",
          Effect.map(queue.counts(Text), ({ active, delayed, waiting }) => active + delayed + waiting === 0)
        )
        for (const [id, text] of acknowledged) {
          assert.strictEqual(yield* queue.result(Text, id, { within: "1 second" }), text)
          assert.isTrue(runs.has(text))
        }
        assert.include(yield* queue.counts(Text), { failed: 0 })
      }).pipe(Effect.provide(queuesOnRedis({ url: server.url, clock })))
    }).pipe(Effect.scoped))
})
