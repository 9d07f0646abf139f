// The parts of an app besides the client.

export const url = process.argv[2]!;
export const userId = process.argv[3]!;
export const getToken = async (): Promise<string> => process.argv[4]!;
export const banners: string[] = [];
export const hideBanner = (): void => void banners.push("hidden");
export const showBanner = (text: string): void => void banners.push(text);

declare const process: { readonly argv: readonly string[] };
