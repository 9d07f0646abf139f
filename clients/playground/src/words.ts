interface Refusal {
  readonly message: string;
  readonly details?: Readonly<Record<string, unknown>>;
}

/** Returns the errors of the fields if the server sent them, otherwise its message, which says less. */
export function inWords({ message, details = {} }: Refusal): string {
  const reasons = Object.entries(details).flatMap(([field, why]) =>
    Array.isArray(why) ? `${field}: ${why.join(" ")}` : [],
  );
  return reasons.join(" ") || message;
}
