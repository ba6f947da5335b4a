// common: how a client's script is told what to do, and how it says what it believes.
//
//     node CLIENT.mjs ADDRESS COUNT
//
// It sends COUNT events, each marked num-0, num-1, … in its payload, in small groups. It prints each number on a
// line of its own once the client has been handed the event, waits before the second half until standard input
// says a line or ends, lets the client flush, and prints {"sent":[…]}: the numbers that the client holds for sent.
import { createInterface } from "node:readline";

export const address = process.argv[2];
export const count = Number(process.argv[3]);
export const mark = (n) => `num-${n}`;
export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const GROUP = 5;
const PAUSE_MS = 15;
const sent = new Set();

/** The client believes that these were sent: a number, or text that has marks in it. */
export function believe(what) {
    if (typeof what === "number") sent.add(what);
    else for (const match of String(what).matchAll(/num-(\d+)/g)) sent.add(Number(match[1]));
}

function word() {
    return new Promise((resolve) => {
        const lines = createInterface({ input: process.stdin });
        lines.once("line", () => { lines.close(); resolve(); });
        lines.once("close", resolve);
    });
}

/** hand: gives one event to the client. group: after each small group. end: the client's own flush. */
export async function run({ hand, group = async () => {}, end }) {
    const half = count >> 1;
    for (let n = 0; n < count; n++) {
        if (n === half) await word();
        hand(n);
        process.stdout.write(`${n}\n`);
        if (n % GROUP === GROUP - 1 || n === count - 1) {
            await group();
            await sleep(PAUSE_MS);
        }
    }
    await end();
    process.stdout.write(JSON.stringify({ sent: [...sent].sort((a, b) => a - b) }) + "\n", () => process.exit(0));
}
