// @langfuse/client 5: scores to /ingestion; 408, 429 and 5xx are tried twice more. The client tells nobody what
// became of a batch, so its answers are read over its shoulder.
import { LangfuseClient } from "@langfuse/client";
import { address, believe, mark, run } from "./common.mjs";

const fetching = globalThis.fetch;
globalThis.fetch = async (url, options) => {
    const answer = await fetching(url, options);
    if (answer.status === 207) {
        const { successes } = await answer.clone().json();
        const taken = new Set(successes.map((s) => s.id));
        for (const event of JSON.parse(options.body).batch) if (taken.has(event.id)) believe(JSON.stringify(event));
    }
    return answer;
};

const langfuse = new LangfuseClient({ baseUrl: address, publicKey: "pk-lf-application", secretKey: "sk-lf-application" });
let scores = 0;

await run({
    hand: (n) => langfuse.score.create({ name: "clients", value: n, traceId: `trace-${n}`, comment: mark(n) }),
    group: async () => { if (++scores % 3 === 0) await langfuse.score.flush(); },
    end: () => langfuse.score.flush(),
});
