/** Spans that cost nothing when nobody listens. */
import { Context, Effect, Tracer } from "effect"

/**
 * Wraps `self` in a span when a tracer is installed, and is `self` otherwise: a span costs more than most of what it
 * would wrap. `attributes` is only called for a span.
 */
export const traced = <A, E, R>(
  self: Effect.Effect<A, E, R>,
  name: string,
  kind: Tracer.SpanKind,
  attributes?: () => Record<string, unknown>,
  links: ReadonlyArray<Tracer.SpanLink> = []
): Effect.Effect<A, E, Exclude<R, Tracer.ParentSpan>> =>
  Effect.withFiber<A, E, R>((fiber) =>
    fiber.getRef(Tracer.Tracer) === Tracer.nativeTracer
      ? self
      : Effect.withSpan(self, name, { kind, links, attributes: attributes?.() ?? {} }) as Effect.Effect<A, E, R>
  ) as Effect.Effect<A, E, Exclude<R, Tracer.ParentSpan>>

/** Whether somebody listens in `context`. */
export const hasTracer = (context: Context.Context<never>): boolean =>
  Context.get(context, Tracer.Tracer) !== Tracer.nativeTracer
