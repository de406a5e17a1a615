/** Sees to it that there is a redis-server for the tests to start: finds one, installs one, or says how to. */
import { execFileSync, spawnSync } from "node:child_process"
import { existsSync, readFileSync } from "node:fs"
import { findRedisServer } from "./findRedisServer.ts"

/** What apt-get runs under. Debian starts a service when it installs it; the tests want the binary, and port 6379 left alone. */
const install = `
set -eu
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  printf '#!/bin/sh\\nexit 101\\n' > "$policy"
  chmod 755 "$policy"
fi
apt-get update -q
apt-get install -q -y --no-install-recommends -o DPkg::Lock::Timeout=120 redis-server
# The policy keeps it from starting now; this, from starting with the machine.
if [ -d /run/systemd/system ]; then systemctl disable redis-server || true; fi
`

const isDebian = (): boolean => {
  if (!existsSync("/etc/os-release")) return false
  const release = readFileSync("/etc/os-release", "utf8")
  return /^ID(?:_LIKE)?=.*\b(?:debian|ubuntu)\b/m.test(release)
}

const howTo = `The tests start Redis servers of their own, and found neither redis-server nor valkey-server on the PATH.

  Debian, Ubuntu   sudo apt-get install redis-server
  macOS            brew install redis
  Docker           docker run --rm -it -v "$PWD":/app -w /app node:24 sh -c "npm ci && npm test"
                   (as root in that container, the tests install Redis by themselves)

A server elsewhere is used when REDIS_SERVER_BIN holds its path.`

const fail = (message: string): never => {
  console.error(message)
  process.exit(1)
}

const ensure = (): string => {
  const found = findRedisServer()
  if (found !== undefined) return found
  const named = process.env["REDIS_SERVER_BIN"]
  if (named) return fail(`REDIS_SERVER_BIN is "${named}", and there is no such program.`)
  if (process.getuid?.() !== 0 || !isDebian()) return fail(howTo)
  if (process.env["REDIS_INSTALL"] === "0") return fail(`${howTo}\n\nREDIS_INSTALL=0 forbids installing it here.`)

  console.log("No redis-server on the PATH: installing Debian's with apt-get (REDIS_INSTALL=0 forbids it).")
  const { status } = spawnSync("sh", ["-c", install], {
    stdio: ["ignore", "inherit", "inherit"],
    env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" }
  })
  const installed = findRedisServer()
  return status === 0 && installed !== undefined ? installed : fail(`Installing redis-server failed.\n\n${howTo}`)
}

const server = ensure()
console.log(`Tests run on ${server}: ${execFileSync(server, ["--version"], { encoding: "utf8" }).trim()}`)
