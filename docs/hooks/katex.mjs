// Draws formulas: a JSON list of {tex, display} on standard input, a list of HTML on standard output.
// The argument is the module of KaTeX.  A formula that KaTeX cannot draw ends the program.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const katex = (await import(pathToFileURL(process.argv[2]).href)).default;
const drawn = JSON.parse(readFileSync(0, "utf8")).map(({ tex, display }) => {
  try {
    return katex.renderToString(tex, { displayMode: display, throwOnError: true, strict: "error" });
  } catch (error) {
    console.error(`${tex}\n${error.message}`);
    process.exit(1);
  }
});
process.stdout.write(JSON.stringify(drawn));
