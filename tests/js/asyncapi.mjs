// What AsyncAPI's own parser has to say of the document on standard input, a finding a line.
import { readFileSync } from "node:fs";
import parser from "@asyncapi/parser";

const { diagnostics } = await new parser.Parser().parse(readFileSync(0, "utf8"));
const WARNING = 1; // 0: an error; from 2 on: advice, as that there is a newer version of AsyncAPI
for (const one of diagnostics.filter(({ severity }) => severity <= WARNING)) {
  console.log(`${one.path.join(".")}: ${one.message}`);
}
