// libhoney 4: batches of 50 or 100 ms, never sends again; the program hears of each event in a callback.
import Libhoney from "libhoney";
import { address, believe, mark, run } from "./common.mjs";

const honey = new Libhoney({
    apiHost: address, writeKey: "hcaik_application", dataset: "clients",
    responseCallback: (responses) => {
        for (const r of responses) if (!r.error && r.status_code === 202) believe(r.metadata);
    },
});

await run({
    hand: (n) => {
        const event = honey.newEvent();
        event.addField("name", mark(n));
        event.addField("duration_ms", n / 7);
        event.metadata = n;
        event.send();
    },
    end: () => honey.flush(),
});
