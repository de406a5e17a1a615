// Swap the layers in a test: the same program in production and under a test's clock, where an hour takes no time.
import { Console, Effect, Fiber, Layer, Logger, Schema } from "effect"
import { Job, JobQueue, JobWorker, ServicesAuto, ServicesMemory } from "effect-redis-kit"
import { TestClock } from "effect/testing"

const Remind = Job.make("remind", { payload: Schema.Struct({ patient: Schema.String }), success: Schema.String })

const worker = JobWorker.layer([Remind.handler(({ patient }) => Effect.succeed(`reminded ${patient}`))])

// What production runs: it knows nothing of layers.
const remindLater = (patient: string, delay: "1 hour" | "10 millis") =>
  Effect.gen(function*() {
    const queue = yield* JobQueue
    const id = yield* queue.enqueue(Remind, { patient }, { delay })
    return yield* queue.result(Remind, id, { within: "2 hours" })
  })

// In a test, an hour passes when the test says so.
const test = Effect.gen(function*() {
  const reminding = yield* Effect.forkChild(remindLater("Ada", "1 hour"))
  yield* TestClock.adjust("59 minutes")
  yield* Console.log("after 59 minutes:", reminding.pollUnsafe() === undefined ? "nothing yet" : "too early")
  yield* TestClock.adjust("1 minute")
  yield* Console.log("after an hour:", yield* Fiber.join(reminding))
}).pipe(
  Effect.provide(worker.pipe(Layer.provideMerge(ServicesMemory), Layer.provideMerge(TestClock.layer())))
)

const production = remindLater("Grace", "10 millis").pipe(
  Effect.flatMap((said) => Console.log("in production:", said)),
  Effect.provide(worker.pipe(
    Layer.provideMerge(ServicesAuto),
    Layer.provideMerge(Layer.succeed(Logger.LogToStderr, true))
  ))
)

await Effect.runPromise(Effect.andThen(test, production))
