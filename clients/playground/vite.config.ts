import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const SERVER = "http://127.0.0.1:3000";
const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig({
  base: "/playground/",
  esbuild: { jsx: "automatic", jsxImportSource: "preact" },
  resolve: {
    // From its source: what is changed there is seen here at once, and nothing has to be built before.
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
    // The names stay, so that the files can be kept beside the server's code and compared.
    rollupOptions: {
      output: { entryFileNames: "playground.js", assetFileNames: "playground[extname]" },
    },
  },
});
