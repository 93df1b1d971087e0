// Python in a thread of its own: it runs what the page sends and sends back what is printed and shown.
// @ts-check
import { loadPyodide } from "./pyodide/pyodide.mjs";
import { instance } from "./viz/viz.js";

/** @param {string} kind @param {string} content */
function send(kind, content) {
  postMessage({ kind, content });
}

async function start() {
  const [python, graphviz, files] = await Promise.all([
    loadPyodide({ indexURL: new URL("pyodide/", import.meta.url).href }),
    instance(),
    fetch(new URL("python.zip", import.meta.url)).then((answer) => answer.arrayBuffer()),
  ]);
  python.unpackArchive(files, "zip", { extractDir: "/lib/microgrid" });
  python.setStdout({ batched: (line) => send("text", `${line}\n`) });
  python.setStderr({ batched: (line) => send("text", `${line}\n`) });
  /** @type {(dot: string, format: string, engine: string) => string} */
  const draw = (dot, format, engine) => {
    const drawn = graphviz.render(dot, { format, engine });
    if (drawn.status !== "success") throw new Error(drawn.errors.map((error) => error.message).join("; "));
    return drawn.output;
  };
  python.globals.set("draw", draw);
  python.globals.set("unpack", () => {
    const request = new XMLHttpRequest(); // at once, for Python waits for it
    request.open("GET", new URL("numpy.zip", import.meta.url), false);
    request.responseType = "arraybuffer";
    request.send();
    python.unpackArchive(request.response, "zip", { extractDir: "/lib/microgrid" });
  });
  const run = python.runPython(`
import sys
sys.path.insert(0, "/lib/microgrid")
import show
show.fetch_when_imported("numpy", unpack)
show.begin(draw)
`);
  send("ready", python.runPython("import microgrid; microgrid.__version__"));
  return run;
}

const ready = start();
ready.catch((error) => send("failed", String(error)));

onmessage = async ({ data }) => {
  const run = await ready;
  try {
    const shown = run(data);
    if (shown) send("html", shown);
  } catch (error) {
    send("error", error instanceof Error ? error.message : String(error));
  }
  send("done", "");
};
