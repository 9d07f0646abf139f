import type { ListedMessage } from "@chatserver/client";

/** The message that the composer replies to or edits; null for a new message. */
export type Draft = { readonly kind: "reply" | "edit"; readonly message: ListedMessage } | null;
