const CAN_HAVE_IT = "a[href], button, select, textarea, input, summary, [tabindex]";

/**
 * When the focused element is removed, disabled or hidden, moves the focus to the nearest element. The browser would
 * drop the focus, and keyboard users would start at the top again.
 */
export function keepFocus(): void {
  /** The focused element and its ancestors, from the inside out. */
  let path: readonly Element[] = [];

  const isLost = (): boolean => document.activeElement === document.body || document.activeElement === path[0];

  const hand = (from: number): void => {
    for (const around of path.slice(from)) {
      if (around === document.body || !isUsable(around)) continue;
      const next = around.matches(CAN_HAVE_IT) ? around : [...around.querySelectorAll(CAN_HAVE_IT)].find(isUsable);
      if (next instanceof HTMLElement) return next.focus({ preventScroll: true });
    }
  };

  document.addEventListener("focusin", ({ target }) => {
    path = target instanceof Element ? [...outwards(target)] : [];
  });
  document.addEventListener("focusout", ({ relatedTarget }) => {
    // Checked later: a removed element cannot be told yet from a click on the background, which must clear the focus.
    if (relatedTarget === null) setTimeout(() => {
      if (document.hasFocus() && document.activeElement === document.body && isUsable(path[0])) path = [];
    });
  });
  new MutationObserver((changes) => {
    const [had] = path;
    if (!had || !isLost()) return;
    if (!isUsable(had)) hand(1);
    else if (changes.some((one) => [...one.removedNodes].some((gone) => gone.contains(had)))) hand(0); // The element was moved.
  }).observe(document.body, { subtree: true, childList: true, attributes: true, attributeFilter: ["disabled", "open"] });
}

function isUsable(element: Element | undefined): boolean {
  return !!element?.isConnected && !element.matches(":disabled") && element.checkVisibility({ visibilityProperty: true });
}

function* outwards(from: Element): Iterable<Element> {
  for (let at: Element | null = from; at; at = at.parentElement) yield at;
}
