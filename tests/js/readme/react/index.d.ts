export function useEffect(effect: () => void | (() => void), dependencies?: readonly unknown[]): void;
export function useSyncExternalStore<T>(
  subscribe: (onStoreChange: () => void) => () => void,
  getSnapshot: () => T,
  getServerSnapshot?: () => T,
): T;
