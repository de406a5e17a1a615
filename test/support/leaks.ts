/** Everything that a program shows of itself, to be searched for what nobody may see. */
import { assert } from "@effect/vitest"
import { Cause, Effect, Exit, Formatter, Layer, Logger, Metric, References, Tracer } from "effect"
import { inspect } from "node:util"

/** What is secret: each text tells where it leaked from. */
export const secrets = {
  password: "s3cr3t-password",
  wrongPassword: "s3cr3t-wrong-password",
  queryPart: "s3cr3t-query",
  /** Stands in the base64 of a private key. */
  key: "s3cr3tPrivateKey",
  value: "s3cr3t-value",
  field: "s3cr3t-field-of-a-value",
  payload: "s3cr3t-payload",
  result: "s3cr3t-result",
  failure: "s3cr3t-failure",
  argument: "s3cr3t-argument"
} as const

/** All that anybody might make of a value to look at it. */
const shapesOf = (value: unknown): ReadonlyArray<string> => {
  const shapes = [
    () => inspect(value, { depth: 20, showHidden: true, maxArrayLength: null, maxStringLength: null }),
    () => inspect(value, { depth: 20, getters: true }),
    () => JSON.stringify(value) ?? "",
    () => String(value),
    () => Formatter.format(value),
    () => Formatter.format(value, { ignoreToString: true }),
    () => Formatter.formatJson(value),
    () => value instanceof Error ? `${value.name} ${value.message} ${value.stack} ${inspect(value.cause)}` : "",
    () => Cause.isCause(value) ? Cause.pretty(value) : "",
    () => Exit.isExit(value) && Exit.isFailure(value) ? Cause.pretty(value.cause) : ""
  ]
  return shapes.flatMap((shape) => {
    try {
      return [shape()]
    } catch {
      // What cannot be shown, like a circle in JSON, shows nothing.
      return []
    }
  })
}

/** Records logs of any level, spans, and what a test shows it. */
export const makeRecorder = () => {
  const seen: Array<readonly [where: string, text: string]> = []
  const spans: Array<Tracer.NativeSpan> = []
  const show = (where: string, value: unknown) => {
    for (const text of shapesOf(value)) seen.push([where, text])
  }
  const logger = Logger.make((options) => {
    show("log", options.message)
    show("log", options.cause)
    seen.push(["log", Logger.formatSimple.log(options)], ["log", Logger.formatJson.log(options)])
    seen.push(["log", Logger.formatStructured.log(options) === undefined ? "" : Logger.formatLogFmt.log(options)])
  })
  const tracer = Tracer.make({
    span: (options) => {
      const span = new Tracer.NativeSpan(options)
      spans.push(span)
      return span
    }
  })
  return {
    show,
    /** Records for whatever it is provided to. */
    layer: Layer.mergeAll(
      Logger.layer([logger]),
      Layer.succeed(References.MinimumLogLevel, "All"),
      Layer.succeed(Tracer.Tracer, tracer)
    ),
    /** How many spans there are. */
    spans: () => spans.length,
    /** How much was shown there. */
    count: (where: string) => seen.filter(([other]) => other === where).length,
    /** Fails when something that was shown holds one of `secret`, by default any. `where` leaves out the rest. */
    assertNothing: (secret: ReadonlyArray<string> = Object.values(secrets), where?: string) =>
      Effect.gen(function*() {
        show("metrics", yield* Metric.snapshot)
        for (const span of spans) {
          show("span", [span.name, [...span.attributes], span.events, span.links.map(({ attributes }) => attributes)])
          if (span.status._tag === "Ended" && Exit.isFailure(span.status.exit)) {
            show("exception", span.status.exit.cause)
          }
        }
        for (const [from, text] of seen) {
          if (where !== undefined && where !== from) continue
          for (const each of secret) {
            const at = text.indexOf(each)
            if (at >= 0) assert.fail(`${from} shows ${each}: ${text.slice(Math.max(0, at - 300), at + 100)}`)
          }
        }
      })
  }
}

export type Recorder = ReturnType<typeof makeRecorder>

/** Runs what has to fail, and shows how it did. */
export const failing = <A, E, R>(recorder: Recorder, where: string, effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.exit(effect), (exit) => {
    if (Exit.isSuccess(exit)) return assert.fail(`${where} went well`)
    recorder.show(where, exit)
    recorder.show(where, exit.cause)
    for (const reason of exit.cause.reasons) recorder.show(where, reason._tag === "Fail" ? reason.error : reason)
  })
