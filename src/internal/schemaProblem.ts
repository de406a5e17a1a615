/** What a schema has against a value, told without any part of the value. */
import { Cause, type Schema, type SchemaAST, SchemaIssue } from "effect"

const format = SchemaIssue.makeFormatterDefault()

/** The error in words. Paths keep the fields that the schema names; a key of a record is part of the value. */
export const problemOf = ({ issue }: Schema.SchemaError): string => format(withoutKeys(issue))

const withoutKeys = (issue: SchemaIssue.Issue, within?: SchemaAST.AST): SchemaIssue.Issue => {
  switch (issue._tag) {
    case "Pointer": {
      const path = issue.path.map((key) => isNamed(key, within) ? key : "…")
      return new SchemaIssue.Pointer(path, withoutKeys(issue.issue))
    }
    case "Composite": {
      const [first, ...others] = issue.issues
      const each = (inner: SchemaIssue.Issue) => withoutKeys(inner, issue.ast)
      return new SchemaIssue.Composite(issue.ast, [each(first), ...others.map(each)])
    }
    case "AnyOf":
      return new SchemaIssue.AnyOf(issue.ast, issue.issues.map((inner) => withoutKeys(inner, within)))
    case "Filter":
      return new SchemaIssue.Filter(issue.filter, withoutKeys(issue.issue, within))
    case "Encoding":
      return new SchemaIssue.Encoding(issue.ast, withoutKeys(issue.issue, within))
    default:
      return issue
  }
}

const isNamed = (key: PropertyKey, within: SchemaAST.AST | undefined): boolean =>
  typeof key === "number" ||
  (within?._tag === "Objects" && within.propertySignatures.some(({ name }) => name === key))

/** What is wrong when a schema threw: its words may hold the value. */
export const problemOfThrown = (thrown: unknown): string =>
  isOverflow(thrown) ? "it is nested too deeply" : "its schema threw an error"

// Effect hands on what schemas of other schemas throw as the cause of an error of its own.
const isOverflow = (thrown: unknown): boolean => {
  if (!(thrown instanceof Error)) return false
  const first = Cause.isCause(thrown.cause) ? Cause.squash(thrown.cause) : thrown
  return first instanceof RangeError && first.message.startsWith("Maximum call stack")
}
