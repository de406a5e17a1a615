// What spreads over a Cluster: a queue of several partitions, and sharded channels. Started before its Redis, it waits.
import { Console, Effect, Fiber, Layer, Logger, Schema, Stream } from "effect"
import {
  Channel,
  Job,
  JobQueue,
  JobQueueLive,
  JobWorker,
  PubSub,
  PubSubLive,
  RedisClient,
  RedisConfig
} from "effect-redis-kit"

const Entry = Schema.Struct({ account: Schema.String, cents: Schema.Int })

// Each partition has a hash slot of its own; jobs with the same key are in one of them.
const Book = Job.make("book", { payload: Entry, partitions: 8 })

// Its messages stay with the server that has the channel's hash slot. No pattern hears them; Redis 7 knows them.
const Booked = Channel.family((account: string) => `booked ${account}`, Schema.Int, { sharded: true })

// One job after the other, so that the entries of an account are booked in their order.
const worker = JobWorker.layer([
  Book.handler(({ account, cents }) =>
    PubSub.pipe(
      Effect.flatMap((pubsub) => pubsub.publish(Booked(account), cents)),
      Effect.orDie,
      Effect.asVoid
    )
  )
], { concurrency: 1 })

const program = Effect.gen(function*() {
  const queue = yield* JobQueue
  const pubsub = yield* PubSub
  const booked = yield* pubsub.subscribeScoped(Booked("ada"))
  const watching = yield* Effect.forkChild(Stream.runCollect(Stream.take(booked, 3)))
  const entries = [1200, -300, 50].map((cents) => ({ account: "ada", cents }))
  yield* queue.enqueueAll(Book, entries, { key: "ada" })
  yield* Console.log("booked:", (yield* Fiber.join(watching)).join())
})

// The variables say where Redis is; what they cannot say is added here.
const connection = Layer.unwrap(
  Effect.map(RedisConfig.config, (settings) => RedisClient.layer({ ...settings, connect: "background" }))
)
const services = Layer.unwrap(Effect.map(RedisConfig.isConfigured, (configured) =>
  configured
    ? Layer.merge(JobQueueLive, PubSubLive).pipe(Layer.provide(connection))
    : Layer.merge(JobQueue.layerMemory, PubSub.layerMemory)))

await Effect.runPromise(program.pipe(
  Effect.scoped,
  Effect.provide(worker.pipe(
    Layer.provideMerge(services),
    Layer.provideMerge(Layer.succeed(Logger.LogToStderr, true))
  ))
))
