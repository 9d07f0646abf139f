// Runs AsyncAPI's own parser on each document of the list on standard input, and prints a list of findings for each.
import { readFileSync } from "node:fs";
import parser from "@asyncapi/parser";

const WARNING = 1; // 0: an error; 2 and more: advice, such as a newer version of AsyncAPI
const said = [];
for (const document of JSON.parse(readFileSync(0, "utf8"))) {
  const { diagnostics } = await new parser.Parser().parse(JSON.stringify(document));
  const wrong = diagnostics.filter(({ severity }) => severity <= WARNING);
  said.push(wrong.map(({ path, message }) => `${path.join(".")}: ${message}`));
}
console.log(JSON.stringify(said));
