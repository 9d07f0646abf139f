const CAN_HAVE_IT = "a[href], button, select, textarea, input, summary, [tabindex]";

/**
 * When what has the focus goes away, is disabled or hidden, the focus goes to what is nearest to it. Left to
 * the browser it would be nowhere, and whoever uses a keyboard would begin at the top again.
 */
export function keepFocus(): void {
  /** What has the focus, and what it is in, from the inside out. */
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
    // Later: now it cannot be told from a click beside everything, after which nothing shall have it.
    if (relatedTarget === null) setTimeout(() => {
      if (document.hasFocus() && document.activeElement === document.body && isUsable(path[0])) path = [];
    });
  });
  new MutationObserver((changes) => {
    const [had] = path;
    if (!had || !isLost()) return;
    if (!isUsable(had)) hand(1);
    else if (changes.some((one) => [...one.removedNodes].some((gone) => gone.contains(had)))) hand(0); // It was moved.
  }).observe(document.body, { subtree: true, childList: true, attributes: true, attributeFilter: ["disabled", "open"] });
}

function isUsable(element: Element | undefined): boolean {
  return !!element?.isConnected && !element.matches(":disabled") && element.checkVisibility({ visibilityProperty: true });
}

function* outwards(from: Element): Iterable<Element> {
  for (let at: Element | null = from; at; at = at.parentElement) yield at;
}
