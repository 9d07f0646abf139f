// What AsyncAPI's own parser has to say of each of the documents on standard input: a list of findings for
// each.
import { readFileSync } from "node:fs";
import parser from "@asyncapi/parser";

const WARNING = 1; // 0: an error; from 2 on: advice, as that there is a newer version of AsyncAPI
const said = [];
for (const document of JSON.parse(readFileSync(0, "utf8"))) {
  const { diagnostics } = await new parser.Parser().parse(JSON.stringify(document));
  const wrong = diagnostics.filter(({ severity }) => severity <= WARNING);
  said.push(wrong.map(({ path, message }) => `${path.join(".")}: ${message}`));
}
console.log(JSON.stringify(said));
