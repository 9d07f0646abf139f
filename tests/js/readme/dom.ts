// As much of a page as the README's code needs: three elements, their contents, and a form.

class Part {
  textContent = "";
  value = "";
  shown: readonly Part[] = [];
  #listeners = new Map<string, (event: { preventDefault(): void }) => void>();

  replaceChildren(...parts: readonly Part[]): void {
    this.shown = parts;
  }

  addEventListener(event: string, listener: (event: { preventDefault(): void }) => void): void {
    this.#listeners.set(event, listener);
  }

  happens(event: string): void {
    this.#listeners.get(event)?.({ preventDefault: () => undefined });
  }
}

export const parts = { ol: new Part(), p: new Part(), input: new Part(), form: new Part() };
const kept = new Map<string, string>();

Object.assign(globalThis, {
  document: {
    querySelector: (name: keyof typeof parts) => parts[name],
    createElement: () => new Part(),
    addEventListener: () => undefined,
    removeEventListener: () => undefined,
  },
  localStorage: { getItem: (key: string) => kept.get(key) ?? null, setItem: (key: string, text: string) => kept.set(key, text) },
});
