import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const SERVER = "http://127.0.0.1:3000";
const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig({
  base: "/playground/",
  esbuild: { jsx: "automatic", jsxImportSource: "preact" },
  resolve: {
    // The client's source, so that changes to it are visible immediately, without a build.
    alias: { "@chatserver/client": here("../js/src/index.ts") },
    dedupe: ["socket.io-client"],
  },
  server: {
    proxy: { "/api": SERVER, "/playground/people": SERVER, "/playground/token": SERVER },
    fs: { allow: [here(".."), here(".")] },
  },
  build: {
    outDir: here("../../chatserver/api/playground/built"),
    emptyOutDir: true,
    target: "es2022",
    modulePreload: false,
    // Stable names, so that the files can be committed and compared.
    rollupOptions: {
      output: { entryFileNames: "playground.js", assetFileNames: "playground[extname]" },
    },
  },
});
