/** Every Lua script compiles, and reads only its declared names. */
import { assert, describe, layer } from "@effect/vitest"
import { Effect } from "effect"
import { readdirSync } from "node:fs"
import { RedisClient } from "../src/RedisClient.ts"
import type { RedisScript } from "../src/RedisScript.ts"
import { sharedRedisUrl, uniqueNamespace } from "./support/sharedRedis.ts"

/** A script whose types are not of interest. */
type AnyScript = RedisScript<never, never, never, unknown>

const isScript = (value: unknown): value is AnyScript =>
  typeof value === "object" && value !== null && "text" in value && "keys" in value && "decode" in value

const directory = new URL("../src/internal/", import.meta.url)

// Whatever module declares scripts, now or later.
const files = readdirSync(directory).filter((file) => /Scripts?\.ts$/.test(file))
const modules = await Promise.all(files.map((file): Promise<object> => import(new URL(file, directory).href)))
const scripts = modules.flatMap((module, i) =>
  Object.values(module).filter(isScript).map((script) => ({ name: script.name, file: files[i], script }))
)

const known = new Set(
  ("and break do else elseif end false for function if in local nil not or repeat return then true until while " +
    "redis cjson cmsgpack struct bit math string table tonumber tostring type pairs ipairs next select unpack error " +
    "pcall assert").split(" ")
)

/** The names that a Lua text uses but neither declares nor finds in the server: typing errors, and globals. */
const undeclared = (lua: string): ReadonlyArray<string> => {
  const text = lua
    .replace(/--\[\[[^]*?\]\]|--[^\n]*/g, "")
    .replace(/"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|\[\[[^]*?\]\]/g, "\"\"")
  const declared = new Set<string>()
  const declarations =
    /\blocal\s+(?!function\b)([\w\s,]+)|\bfunction\s*(\w*)\s*\(([^)]*)\)|\bfor\s+([\w\s,]+?)\s*(?:=|\bin\b)/g
  for (const [, ...names] of text.matchAll(declarations)) {
    for (const name of names.join(",").match(/[A-Za-z_]\w*/g) ?? []) declared.add(name)
  }
  const used = Array.from(text.matchAll(/(?<![\w:]|(?<!\.)\.)[A-Za-z_]\w*/g), ([name]) => name)
  // The key in `{ key = value }` is no name.
  const keys = new Set(Array.from(text.matchAll(/[{,]\s*([A-Za-z_]\w*)\s*=(?!=)/g), ([, key]) => key))
  return used.filter((name) => !known.has(name) && !declared.has(name) && !keys.has(name))
}

layer(RedisClient.layer({ url: sharedRedisUrl(), namespace: uniqueNamespace() }), { excludeTestServices: true })(
  "Lua scripts",
  (it) => {
    it.effect("have names of their own", () =>
      Effect.sync(() => {
        const names = scripts.map(({ name }) => name)
        assert.deepStrictEqual(names.filter((name, i) => names.indexOf(name) !== i), [])
        assert.isAbove(names.length, 0)
      }))

    it.effect("are read by a check that sees what is not declared", () =>
      Effect.sync(() => {
        assert.deepStrictEqual(undeclared("local a, b = 1, 2\nlocal t = { c = a }\nreturn t.d + b -- e\n"), [])
        assert.deepStrictEqual(undeclared("local function f(x) return x end\nfor i, v in pairs(y) do f(i) end"), ["y"])
        assert.deepStrictEqual(undeclared("a = \"b c\"\nreturn redis.call('GET', d)"), ["a", "d"])
      }))

    describe.each(scripts)("$name ($file)", ({ name, script }) => {
      it.effect("compiles on the server, under the hash that we compute", () =>
        Effect.gen(function*() {
          const { use } = yield* RedisClient
          for (const offsetMillis of [0, 1500]) {
            const { lua, sha } = script.text(offsetMillis)
            assert.strictEqual(yield* use("script", (client) => client.script("LOAD", lua)), sha)
            assert.isTrue(lua.startsWith(`-- ${name}\n`))
          }
        }))

      it.effect("uses only the names that it declares", () =>
        Effect.sync(() => {
          const lines = script.text(0).lua.split("\n")
          const declared = 1 + script.keys.length + script.args.length + (script.rest === undefined ? 0 : 1)
          assert.notMatch(lines.slice(declared).join("\n"), /\b(KEYS|ARGV)\b/)
          assert.deepStrictEqual(undeclared(lines.join("\n")).filter((name) => !/^(KEYS|ARGV)$/.test(name)), [])
        }))
    })
  }
)
