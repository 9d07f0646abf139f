import type { ListedMessage } from "@chatserver/client";

/** What the composer is about: something new, an answer, or a correction. */
export type Draft = { readonly kind: "reply" | "edit"; readonly message: ListedMessage } | null;
