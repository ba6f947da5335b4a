// cloudevents: the library of the specification. What it does not do is send again; this program does, with the
// same ids, as the contract tells a sender to after 429, 503 and no answer. Binary and structured events in turn.
import { CloudEvent, emitterFor, Mode } from "cloudevents";
import { address, believe, mark, run, sleep } from "./common.mjs";

async function transport({ headers, body }) {
    for (let tries = 0; tries < 60; tries++) {
        try {
            const answer = await fetch(address + "/events", { method: "POST", headers, body, signal: AbortSignal.timeout(5000) });
            await answer.text();
            if (answer.status === 202) return answer;
            if (answer.status !== 429 && answer.status !== 503) throw new Error(`status ${answer.status}`, { cause: "final" });
        } catch (e) {
            if (e.cause === "final") throw e;
        }
        await sleep(100);
    }
    throw new Error("given up");
}

const emitters = [emitterFor(transport, { mode: Mode.BINARY }), emitterFor(transport, { mode: Mode.STRUCTURED })];
const flying = new Set();

await run({
    hand: (n) => {
        const event = new CloudEvent({ type: "clients.test", source: "/clients", subject: "user 1", data: { text: mark(n) } });
        const one = emitters[n % 2](event).then(() => believe(n), (e) => console.error(mark(n), e)).finally(() => flying.delete(one));
        flying.add(one);
    },
    end: () => Promise.all(flying),
});
