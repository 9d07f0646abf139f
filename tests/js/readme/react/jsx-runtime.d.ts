export namespace JSX {
  type Element = unknown;
  interface IntrinsicElements {
    readonly ul: { readonly children: unknown };
    readonly li: { readonly key: string; readonly onClick: () => void; readonly children: unknown };
  }
}
export function jsx(type: string, props: object, key?: string): JSX.Element;
export const jsxs: typeof jsx;
