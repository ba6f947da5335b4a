// @fluent-org/logger: packed forward over the Unix stream, acknowledged by chunk; an event that was not acknowledged
// is sent again as another chunk, so that it may arrive twice.
import { FluentClient } from "@fluent-org/logger";
import { address, believe, mark, run } from "./common.mjs";

const client = new FluentClient("clients", {
    socket: { path: address, reconnect: { minDelay: 50, maxDelay: 200 } }, eventMode: "PackedForward",
    ack: { ackTimeout: 2000 }, eventRetry: { attempts: 8, minDelay: 50, maxDelay: 500 },
});
client.socketOn("error", () => {});
const flying = [];

await run({
    hand: (n) => flying.push(client.emit("test", { text: mark(n) }).then(() => believe(n), (e) => console.error(mark(n), String(e)))),
    end: () => Promise.all(flying),
});
