/** Runs every numbered example in memory, on Redis and on a Cluster: all must succeed, and print the same. */
import { Effect } from "effect"
import { spawn } from "node:child_process"
import { randomUUID } from "node:crypto"
import { hasExamples, numberedExamples, root, withoutRedis } from "./examples.ts"
import { RedisCluster } from "./redisCluster.ts"
import { RedisServer } from "./redisServer.ts"

const limitMillis = 60_000

interface Run {
  readonly stdout: string
  /** What went wrong, if anything did. */
  readonly problem: string | undefined
  readonly seconds: string
}

const run = (path: string, env: NodeJS.ProcessEnv): Promise<Run> =>
  new Promise((resolve) => {
    const start = performance.now()
    const child = spawn(process.execPath, [path], { cwd: root, env, stdio: ["ignore", "pipe", "pipe"] })
    let stdout = ""
    let stderr = ""
    child.stdout.setEncoding("utf8").on("data", (text: string) => stdout += text)
    child.stderr.setEncoding("utf8").on("data", (text: string) => stderr += text)
    // An example must end by itself, so one that still runs has left something open.
    const late = setTimeout(() => child.kill("SIGKILL"), limitMillis)
    child.on("close", (code, signal) => {
      clearTimeout(late)
      const how = signal === null ? `exit code ${code}` : `${signal} after ${limitMillis / 1000} s`
      resolve({
        stdout,
        problem: code === 0 ? undefined : `${how}\n${stdout}${stderr}`,
        seconds: `${((performance.now() - start) / 1000).toFixed(1)} s`
      })
    })
  })

const difference = (memory: Run, redis: Run, cluster: Run): string | undefined => {
  if (memory.problem !== undefined) return `in memory: ${memory.problem}`
  for (const [where, run] of [["on Redis", redis], ["on a Cluster", cluster]] as const) {
    if (run.problem !== undefined) return `${where}: ${run.problem}`
    if (memory.stdout !== run.stdout) return `prints in memory\n${memory.stdout}and ${where}\n${run.stdout}`
  }
  return undefined
}

const connections = (server: RedisServer): Effect.Effect<number> =>
  Effect.map(
    server.cli("INFO", "stats"),
    (info) => Number(/total_connections_received:(\d+)/.exec(String(info))?.[1])
  )

const program = Effect.gen(function*() {
  const [server, { url: clusterUrl }] = yield* Effect.all(
    [RedisServer.start(), RedisCluster.start({ replicas: 0 })],
    { concurrency: "unbounded" }
  )
  let failed = 0
  const examples = numberedExamples()
  for (const { name, path } of examples) {
    const before = yield* connections(server)
    const on = (url: string) =>
      run(path, { ...withoutRedis(), REDIS_URL: url, SERVICE_NAME: `example-${randomUUID()}` })
    const [memory, redis, cluster] = yield* Effect.promise(() =>
      Promise.all([
        run(path, withoutRedis()),
        on(server.url),
        on(clusterUrl)
      ])
    )
    // An example that never looks at REDIS_URL prints the same twice; how often it connected is there to be seen.
    const connected = (yield* connections(server)) - before - 1
    const problem = difference(memory, redis, cluster)
    if (problem !== undefined) failed += 1
    console.log(
      `${problem === undefined ? "ok    " : "FAILED"} ${name} (memory ${memory.seconds}; Redis ${redis.seconds}, ` +
        `connections: ${connected}; Cluster ${cluster.seconds})${problem === undefined ? "" : `\n${problem}`}`
    )
  }
  return { passed: examples.length - failed, failed }
})

if (!hasExamples()) {
  console.log("There are no examples yet.\n0 passed, 0 failed")
} else if (numberedExamples().length === 0) {
  console.error("examples/ is there, and holds no numbered example.\n0 passed, 1 failed")
  process.exitCode = 1
} else {
  const { passed, failed } = await Effect.runPromise(Effect.scoped(program))
  console.log(`${passed} passed, ${failed} failed`)
  process.exitCode = failed === 0 ? 0 : 1
}
