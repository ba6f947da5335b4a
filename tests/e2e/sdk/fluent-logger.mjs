// fluent-logger 3: one message per event over the Unix stream, each with a chunk to be acknowledged. It sends nothing
// again; a callback says what became of each event.
import fluent from "fluent-logger";
import { address, believe, mark, run, sleep } from "./common.mjs";

const logger = fluent.createFluentSender("clients", {
    path: address, timeout: 10, requireAckResponse: true, ackResponseTimeout: 5000, reconnectInterval: 100,
    internalLogger: { info() {}, error() {} },
});
logger.on("error", (e) => console.error(String(e)));
const open = new Set();

await run({
    hand: (n) => {
        open.add(n);
        logger.emit("test", { text: mark(n) }, (error) => {
            open.delete(n);
            if (!error) believe(n);
        });
    },
    end: async () => {
        for (let waited = 0; open.size > 0 && waited < 8000; waited += 20) await sleep(20);
    },
});
