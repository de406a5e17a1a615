// Two connections, two purposes: a server that may evict for what can be lost, one that never does for jobs.
// Each is its own layer; a program cannot tell. CACHE_REDIS_URL and REDIS_URL may name different servers.
import { Config, Console, Effect, Layer, Logger, Option, Schema } from "effect"
import { Job, JobQueue, JobQueueLive, JobWorker, Redis, RedisClient, RedisConfig } from "effect-redis-kit"

const Thumbnail = Job.make("thumbnail", { payload: Schema.Struct({ image: Schema.String }), success: Schema.String })

const worker = JobWorker.layer([Thumbnail.handler(({ image }) => Effect.succeed(`small-${image}`))])

const program = Effect.gen(function*() {
  const cache = yield* Redis
  const queue = yield* JobQueue
  const id = yield* queue.enqueue(Thumbnail, { image: "cat.png" })
  yield* cache.set("thumbnail:cat.png", yield* queue.result(Thumbnail, id, { within: "5 seconds" }), { ttl: "1 hour" })
  yield* Console.log("cached:", Option.getOrElse(yield* cache.get("thumbnail:cat.png"), () => "nothing"))
})

const settings = Config.all({
  jobs: RedisConfig.config,
  cacheUrl: Config.option(Config.Redacted("CACHE_REDIS_URL"))
})

const onRedis = Layer.unwrap(Effect.map(settings, ({ cacheUrl, jobs }) => {
  const cache = Option.isNone(cacheUrl) ? jobs : { url: cacheUrl.value }
  return Layer.merge(
    Redis.layerClient.pipe(Layer.provide(RedisClient.layer({ ...cache, namespace: "cache" }))),
    JobQueueLive.pipe(Layer.provide(RedisClient.layer({ ...jobs, namespace: "jobs" })))
  )
}))
const inMemory = Layer.merge(Redis.layerMemory, JobQueue.layerMemory)

const services = Layer.unwrap(
  Effect.map(RedisConfig.isConfigured, (configured) => configured ? onRedis : inMemory)
)

await Effect.runPromise(program.pipe(
  Effect.provide(worker.pipe(
    Layer.provideMerge(services),
    Layer.provideMerge(Layer.succeed(Logger.LogToStderr, true))
  ))
))
