export const useEffect = (effect) => void effect();

export function useSyncExternalStore(subscribe, getSnapshot) {
  subscribe(() => undefined)();
  return getSnapshot();
}
