// A job with a typed result, retries, a typed error that ends in the dead letters, and its replay.
import { Console, Effect, Layer, Logger, Schema } from "effect"
import { Job, JobQueue, JobWorker, ServicesAuto } from "effect-redis-kit"

class NoSuchAddress extends Schema.TaggedError<NoSuchAddress>()("NoSuchAddress", { to: Schema.String }) {}

const SendWelcome = Job.make("send-welcome", {
  payload: Schema.Struct({ to: Schema.String }),
  success: Schema.Struct({ messageId: Schema.String }),
  error: NoSuchAddress,
  attempts: 2,
  backoff: { kind: "fixed", delay: "20 millis" },
  timeout: "10 seconds"
})

const worker = JobWorker.layer([
  SendWelcome.handler(({ to }, { attempt }) =>
    to.includes("@")
      ? Effect.succeed({ messageId: `<${to}>, attempt ${attempt}` })
      : Effect.fail(new NoSuchAddress({ to }))
  )
], { concurrency: 4 })

const program = Effect.gen(function*() {
  const queue = yield* JobQueue

  const ada = yield* queue.enqueue(SendWelcome, { to: "ada@example.com" }, { delay: "50 millis", priority: 1 })
  const { messageId } = yield* queue.result(SendWelcome, ada, { within: "5 seconds" })
  yield* Console.log("sent:", messageId)

  const nobody = yield* queue.enqueue(SendWelcome, { to: "nobody" })
  yield* queue.result(SendWelcome, nobody, { within: "5 seconds" }).pipe(
    Effect.catchTag("NoSuchAddress", ({ to }) => Console.log("no such address:", to))
  )
  const { jobs } = yield* queue.list(SendWelcome, { state: "failed" })
  yield* Console.log("dead letters:", jobs.map((job) => `attempt ${job.attempt}: ${job.failure?.reason}`).join())
  yield* Console.log("replayed:", yield* queue.replay(SendWelcome))
})

// The log goes to stderr, so that stdout is the same on every engine.
await Effect.runPromise(program.pipe(
  Effect.provide(worker.pipe(
    Layer.provideMerge(ServicesAuto),
    Layer.provideMerge(Layer.succeed(Logger.LogToStderr, true))
  ))
))
