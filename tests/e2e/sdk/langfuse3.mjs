// langfuse 3: traces to /ingestion, 15 at a time; every failure is sent again with the same ids. Its pause of 3 s
// between tries is shortened here.
import { Langfuse } from "langfuse";
import { address, believe, mark, run } from "./common.mjs";

const langfuse = new Langfuse({
    baseUrl: address, publicKey: "pk-lf-application", secretKey: "sk-lf-application",
    flushAt: 15, flushInterval: 200, fetchRetryCount: 8, fetchRetryDelay: 400,
});
// A failed batch says "warning" and then, in the same breath, "flush" like one that was taken.
let failure = null;
langfuse.on("warning", (e) => { failure = e; });
langfuse.on("flush", (items) => {
    if (failure === null) believe(JSON.stringify(items));
    failure = null;
});

await run({
    hand: (n) => langfuse.trace({ name: "clients", input: { text: mark(n) } }),
    end: () => langfuse.shutdownAsync(),
});
