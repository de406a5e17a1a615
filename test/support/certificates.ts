/** Certificates for TLS tests, good ones and bad ones, made by the `openssl` program. */
import { Effect } from "effect"
import { execFile } from "node:child_process"
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"

/** Both as PEM. */
export interface KeyPair {
  readonly cert: string
  readonly key: string
}

export interface Certificates {
  /** The authority that signed `server`, `client` and `expiredServer`, as PEM. */
  readonly ca: string
  /** For `localhost` and `127.0.0.1`, as the other servers. */
  readonly server: KeyPair
  readonly client: KeyPair
  /** Was good until 2020. */
  readonly expiredServer: KeyPair
  /** Signed by an authority that nobody trusts. */
  readonly strangerServer: KeyPair
}

let made: Promise<Certificates> | undefined

/** Made once in a test process. Dies when there is no `openssl`. */
export const certificates: Effect.Effect<Certificates> = Effect.promise(() => made ??= makeAll())

const makeAll = async (): Promise<Certificates> => {
  const directory = await mkdtemp(join(tmpdir(), "certificates-"))
  try {
    const [trusted, stranger] = await Promise.all([
      makeAuthority(join(directory, "trusted")),
      makeAuthority(join(directory, "stranger"))
    ])
    // An authority numbers what it signs in a file, so it signs one at a time.
    const [[server, client, expiredServer], strangerServer] = await Promise.all([
      (async () =>
        [
          await trusted.sign("server"),
          await trusted.sign("client"),
          await trusted.sign("expired", "-startdate 20190101000000Z -enddate 20200101000000Z")
        ] as const)(),
      stranger.sign("server")
    ])
    return { ca: trusted.ca, server, client, expiredServer, strangerServer }
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

// `openssl ca` is the only way to date a certificate back that old and new versions of openssl know.
const config = `
[req]
distinguished_name = dn
prompt = no
[dn]
CN = effect-redis-kit test authority
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
[ca]
default_ca = default
[default]
database = index.txt
serial = serial
new_certs_dir = .
default_md = sha256
policy = policy
x509_extensions = leaf
unique_subject = no
[policy]
commonName = supplied
[leaf]
basicConstraints = CA:FALSE
extendedKeyUsage = serverAuth, clientAuth
subjectAltName = DNS:localhost, IP:127.0.0.1
`

const makeAuthority = async (directory: string) => {
  const openssl = (...args: ReadonlyArray<string>) => run(directory, args.join(" ").split(" "))
  const newKey = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
  await mkdir(directory)
  await writeFile(join(directory, "openssl.cnf"), config)
  await writeFile(join(directory, "index.txt"), "")
  await writeFile(join(directory, "serial"), "01\n")
  await openssl("req -config openssl.cnf -x509 -extensions authority -days 3650", newKey, "-keyout ca.key -out ca.crt")
  return {
    ca: await readFile(join(directory, "ca.crt"), "utf8"),
    sign: async (name: string, dates = "-days 3650"): Promise<KeyPair> => {
      await openssl(`req -config openssl.cnf -subj /CN=${name}`, newKey, `-keyout ${name}.key -out ${name}.csr`)
      await openssl(
        "ca -config openssl.cnf -batch -notext -cert ca.crt -keyfile ca.key",
        dates,
        `-in ${name}.csr -out ${name}.crt`
      )
      return {
        cert: await readFile(join(directory, `${name}.crt`), "utf8"),
        key: await readFile(join(directory, `${name}.key`), "utf8")
      }
    }
  }
}

const run = async (cwd: string, args: ReadonlyArray<string>) => {
  try {
    await promisify(execFile)("openssl", args, { cwd })
  } catch (cause) {
    const missing = cause instanceof Error && "code" in cause && cause.code === "ENOENT"
    throw new Error(
      missing
        ? "The TLS tests need the openssl program (Debian: apt-get install openssl)"
        : `openssl ${args.join(" ")} failed`,
      { cause }
    )
  }
}
