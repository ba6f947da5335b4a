// @launchdarkly/node-server-sdk: custom events to /bulk; a failed payload is sent once more after a second.
import { init } from "@launchdarkly/node-server-sdk";
import { address, believe, mark, run } from "./common.mjs";

const quiet = { debug() {}, info() {}, warn: console.error, error: console.error };
const client = init("sdk-application", {
    baseUri: address, streamUri: address, eventsUri: address,
    useLdd: true, diagnosticOptOut: true, flushInterval: 3600, logger: quiet,
});
let handed = [];

// Flushed by hand, since only flush() tells the program whether its events were taken.
async function flush() {
    const events = handed;
    handed = [];
    await client.flush((error) => { if (error) console.error(error); else events.forEach(believe); }).catch(() => {});
}

await run({
    hand: (n) => {
        client.track("clients", { kind: "user", key: `user-${n % 3}` }, { text: mark(n) }, n);
        handed.push(n);
    },
    group: flush,
    end: flush,
});
