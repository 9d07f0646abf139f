interface Refusal {
  readonly message: string;
  readonly details?: Readonly<Record<string, unknown>>;
}

/** What was wrong with each field, where the server says so: it tells more than that something was. */
export function inWords({ message, details = {} }: Refusal): string {
  const reasons = Object.entries(details).flatMap(([field, why]) =>
    Array.isArray(why) ? `${field}: ${why.join(" ")}` : [],
  );
  return reasons.join(" ") || message;
}
