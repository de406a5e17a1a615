/** Every public operation of JobQueue, and a worker's steps, on a queue that is kept at its size. */
import { Context, Deferred, Effect, Layer, ManagedRuntime, References, Schema, Stream } from "effect"
import { Job, JobQueue, type JobQueueOptions, JobWorker, RedisClient } from "effect-redis-kit"
import { openElsewhere } from "../support/elsewhere.ts"
import { email } from "../support/jobs.ts"
import { emailJob } from "./email.ts"

/** How many jobs are in each state; `finished`: outcomes that are kept. */
export type Sizes = Readonly<Record<ListedState, number>>
const states = ["waiting", "delayed", "active", "failed", "finished"] as const
type ListedState = typeof states[number]

export interface Operation {
  readonly name: string
  /** What has to be there, besides the queue at its size. */
  readonly prepare?: Effect.Effect<unknown, unknown>
  readonly run: Effect.Effect<unknown, unknown>
}

const name = "slowlog"
const Email = emailJob(name)
/** Fails for good. */
const Doomed = Job.make("doomed", { queue: name, payload: Schema.Struct({}), attempts: 1, error: Schema.String })
/** Fails, and is tried again in a day. */
const Failing = Job.make("failing", {
  queue: name,
  payload: Schema.Struct({}),
  error: Schema.String,
  backoff: { kind: "fixed", delay: "1 day" }
})

const emails = (count: number) => Array.from({ length: count }, (_, i) => email(i))
const uuid = () => crypto.randomUUID()
const nothings = (count: number) => Array.from({ length: count }, () => ({}))

/** What the scripts of one name have cost. */
export interface Calls {
  count: number
  /** The most CPU that the server used for one of them, in microseconds. */
  longest: number
}

/** Notes the scripts that go through a client: their names by hash, and what they cost since `calls` was cleared. */
const makeRecord = () => {
  const names = new Map<string, string>()
  const calls = new Map<string, Calls>()
  const layer = Layer.effect(
    RedisClient,
    Effect.map(RedisClient, (client) => {
      const cpu = Effect.map(
        client.info("cpu"),
        (info) => 1e6 * (Number(info["used_cpu_user_main_thread"]) + Number(info["used_cpu_sys_main_thread"]))
      )
      return RedisClient.of({
        ...client,
        // Questions before and behind it on the same connection: nothing else of ours runs in between.
        script: (script, values, options) =>
          Effect.map(
            Effect.all([cpu, client.script(script, values, options), cpu], { concurrency: "unbounded" }),
            ([before, reply, after]) => {
              names.set(script.text(0).sha, script.name)
              const { count, longest } = calls.get(script.name) ?? { count: 0, longest: 0 }
              calls.set(script.name, { count: count + 1, longest: Math.max(longest, Math.round(after - before)) })
              return reply
            }
          )
      })
    })
  )
  return { names, calls, layer }
}

/** A queue on the server at that port, what can be done to it, and what brings it back to its size. */
export const openOperations = async (port: number, sizes: Sizes) => {
  const record = makeRecord()
  const runtime = ManagedRuntime.make(
    JobQueue.layer().pipe(
      Layer.provideMerge(record.layer),
      Layer.provide(RedisClient.layer({ url: `redis://127.0.0.1:${port}` })),
      // Dead letters are what we are after here.
      Layer.provideMerge(Layer.succeed(References.MinimumLogLevel, "Error"))
    )
  )
  const services = await runtime.context()
  const queue = Context.get(services, JobQueue)
  const holder = await openElsewhere(port)

  /** A worker, until so many jobs, or a few more, have run. */
  const work = (concurrency: number, count: number, options?: JobQueueOptions) =>
    Effect.gen(function*() {
      const done = yield* Deferred.make<void>()
      let runs = 0
      const counted = <A, E>(outcome: Effect.Effect<A, E>) =>
        Effect.suspend(() => {
          if (++runs === count) Deferred.doneUnsafe(done, Effect.void)
          return outcome
        })
      const worker = JobWorker.layer([
        Email.handler(() => counted(Effect.void)),
        Doomed.handler(() => counted(Effect.fail("doomed"))),
        Failing.handler(() => counted(Effect.fail("failing")))
      ], { concurrency })
      const queues = options === undefined ? Layer.succeed(JobQueue, queue) : JobQueue.layer(options)
      yield* Effect.scoped(Effect.andThen(Layer.build(Layer.provide(worker, queues)), Deferred.await(done)))
    }).pipe(Effect.provide(services))
  const first = { priority: 0 }
  const many = <A, E>(times: number, effect: Effect.Effect<A, E>) => Effect.repeat(effect, { times: times - 1 })
  const idsOf = (state: ListedState, count: number) =>
    Effect.map(queue.list(name, { state, limit: count }), ({ jobs }) => jobs.map(({ id }) => id))
  const toEach = <A, E>(state: ListedState, change: (id: string) => Effect.Effect<A, E>) =>
    Effect.flatMap(idsOf(state, 100), (ids) => Effect.forEach(ids, change))
  const everyPage = (state: ListedState) =>
    Effect.gen(function*() {
      let cursor: string | undefined
      do cursor = (yield* queue.list(name, { state, cursor, limit: 1000 })).next
      while (cursor !== undefined)
    })

  const restore = Effect.gen(function*() {
    const counts = yield* queue.counts(name)
    const missing = (state: ListedState) => Math.max(0, sizes[state] - counts[state])
    yield* Stream.runDrain(queue.enqueueChunks(Doomed, nothings(missing("failed")), first))
    if (missing("failed") > 0) yield* work(500, missing("failed"))
    yield* Stream.runDrain(queue.enqueueChunks(Email, emails(missing("finished")), first))
    if (missing("finished") > 0) yield* work(500, missing("finished"))
    const { waiting } = yield* queue.counts(name)
    const toWait = Math.max(0, sizes.waiting + missing("active") - waiting)
    yield* Stream.runDrain(queue.enqueueChunks(Email, emails(toWait)))
    yield* Effect.promise(() => holder.take(name, missing("active")))
    yield* Stream.runDrain(queue.enqueueChunks(Email, emails(missing("delayed")), { delay: "1 day" }))
  })

  const some = Math.max(2000, sizes.waiting / 50)
  const operations: ReadonlyArray<Operation> = [
    {
      name: "growing from nothing to this size",
      prepare: Context.get(services, RedisClient).use("flushall", (client) => client.flushall()),
      run: restore
    },
    { name: "enqueue, one by one", run: many(100, queue.enqueue(Email, email(0))) },
    {
      name: "enqueue, 2,000 callers",
      run: Effect.forEach(emails(2000), (email) => queue.enqueue(Email, email), { concurrency: "unbounded" })
    },
    { name: "enqueueAll(1000)", run: many(20, queue.enqueueAll(Email, emails(1000))) },
    {
      name: "enqueueAll(1000), ids given",
      run: many(20, Effect.suspend(() => queue.enqueueAll(Email, emails(1000), { ids: emails(1000).map(uuid) })))
    },
    { name: "enqueueAll(1000), delayed", run: many(20, queue.enqueueAll(Email, emails(1000), { delay: "1 day" })) },
    { name: `enqueueChunks(${some})`, run: Stream.runDrain(queue.enqueueChunks(Email, emails(some))) },
    { name: "work, concurrency 1", run: work(1, some / 10) },
    { name: "work, concurrency 100", run: work(100, some) },
    { name: "work, concurrency 500", run: work(500, some) },
    {
      name: "work, concurrency 500: all fail, to be tried again",
      prepare: queue.enqueueAll(Failing, nothings(1000), first),
      run: work(500, 1000)
    },
    {
      name: "work, concurrency 500: all become dead letters",
      prepare: queue.enqueueAll(Doomed, nothings(1000), first),
      run: work(500, 1000)
    },
    {
      name: `work: ${sizes.delayed} delayed jobs are due`,
      prepare: Effect.andThen(
        Stream.runDrain(queue.enqueueChunks(Email, emails(sizes.delayed), { delay: "3 seconds" })),
        Effect.sleep("3 seconds")
      ),
      run: work(100, some)
    },
    {
      name: `work: ${sizes.active} jobs whose holder was killed`,
      prepare: Effect.promise(async () => {
        const killed = await openElsewhere(port)
        await killed.take(name, sizes.active, 2000)
        await killed.kill()
      }).pipe(Effect.andThen(Effect.sleep("2 seconds"))),
      run: work(100, some)
    },
    { name: "work: outcomes to be swept", run: work(100, some, { retention: { count: 0 } }) },
    { name: "work: dead letters to be swept", run: work(100, some, { deadLetters: { age: 0 } }) },
    ...states.map((state) => ({ name: `get, ${state}`, run: toEach(state, (id) => queue.get(name, id)) })),
    ...states.map((state) => ({ name: `list(1000), ${state}, all pages`, run: everyPage(state) })),
    { name: "counts", run: many(20, queue.counts(name)) },
    { name: "size", run: many(20, queue.size(name)) },
    ...(["waiting", "delayed", "active"] as const).map((state) => ({
      name: `cancel, ${state}`,
      run: toEach(state, (id) => queue.cancel(name, id))
    })),
    ...(["waiting", "delayed", "failed", "finished"] as const).map((state) => ({
      name: `remove, ${state}`,
      run: toEach(state, (id) => queue.remove(name, id))
    })),
    { name: "retry", run: toEach("failed", (id) => queue.retry(name, id)) },
    { name: "promote", run: toEach("delayed", (id) => queue.promote(name, id)) },
    { name: "pause and resume", run: many(20, Effect.andThen(queue.pause(name), queue.resume(name))) },
    {
      name: "take(500), held, with a sign of life each 100 ms",
      run: Effect.scoped(Effect.andThen(queue.take(Email, 500, { lease: "300 millis" }), Effect.sleep("1 second")))
    },
    { name: "take(500), given back", run: many(20, Effect.scoped(queue.take(Email, 500))) },
    {
      name: "result, 1,000 at once",
      prepare: queue.enqueueAll(Email, emails(1000), first),
      run: Effect.gen(function*() {
        const ids = yield* idsOf("waiting", 1000)
        const results = Effect.forEach(ids, (id) => queue.result(Email, id, { within: "1 minute" }), {
          concurrency: "unbounded"
        })
        yield* Effect.all([results, work(100, 2000)], { concurrency: "unbounded" })
      })
    },
    {
      name: "events",
      run: Effect.scoped(Effect.gen(function*() {
        const events = yield* queue.eventsScoped(name)
        yield* Effect.forkScoped(Stream.runDrain(events))
        yield* work(100, some)
      }))
    },
    { name: "replay", run: queue.replay(name) },
    { name: "drain", run: queue.drain(name) },
    { name: "clear", run: queue.clear(name) }
  ]
  return {
    operations,
    restore: () => runtime.runPromise(restore),
    prepare: ({ prepare = Effect.void }: Operation) => runtime.runPromise(prepare),
    run: ({ run }: Operation) => runtime.runPromise(run),
    /** The names of scripts by their hashes. */
    names: record.names,
    /** What each script has cost since the last question. */
    calls: () => {
      const calls = new Map(record.calls)
      record.calls.clear()
      return calls
    },
    close: async () => {
      await holder.close()
      await runtime.dispose()
    }
  }
}
