// Drives browsers by puppeteer for tests/support/bridge.py. Reads a call a line as JSON, prints answers and
// events a line as JSON. A call: {id, on, call, with}; `on` is the number of an object (0: puppeteer itself),
// `call` a path to one of its members, `with` the arguments. Answers: {id, value} or {id, error}.
// Events that a call of `listen` asked for: {event, on, value}.
//
// Objects that are not plain data travel as {"$": number}, functions for the page as {"function": "source"}.
import { createInterface } from "node:readline";

import puppeteer from "puppeteer-core";

const objects = [puppeteer];
const numbers = new Map([[puppeteer, 0]]);

// What of an event a test can look at.
const TOLD = {
    console: (message) => ({ kind: message.type(), text: message.text(), url: message.location().url ?? "" }),
    pageerror: (error) => ({ text: error.stack ?? String(error) }),
    dialog: (dialog) => ({ kind: dialog.type(), text: dialog.message(), dialog }),
    request: (request) => ({ method: request.method(), url: request.url() }),
    response: (response) => ({
        method: response.request().method(),
        url: response.url(),
        status: response.status(),
    }),
};

function say(message) {
    process.stdout.write(JSON.stringify(message) + "\n");
}

function encode(value) {
    if (value instanceof Uint8Array) {
        return Buffer.from(value).toString("base64");
    }
    if (Array.isArray(value)) {
        return value.map(encode);
    }
    if (typeof value !== "object" || value === null) {
        return value ?? null;
    }
    if ([Object.prototype, null].includes(Object.getPrototypeOf(value))) {
        return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, encode(one)]));
    }
    if (!numbers.has(value)) {
        numbers.set(value, objects.push(value) - 1);
    }
    return { $: numbers.get(value) };
}

function decode(value) {
    if (typeof value !== "object" || value === null) {
        return value;
    }
    if (Array.isArray(value)) {
        return value.map(decode);
    }
    if ("$" in value) {
        return objects[value.$];
    }
    if ("function" in value) {
        // Puppeteer sends the source of a function to the page.
        return new Function(`return (${value.function})`)();
    }
    return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, decode(one)]));
}

async function run({ on, call, with: given }) {
    if (call === "listen") {
        for (const event of given) {
            objects[on].on(event, (value) => say({ event, on, value: encode(TOLD[event](value)) }));
        }
        return null;
    }
    const path = call.split(".");
    const name = path.pop();
    const owner = path.reduce((object, key) => object[key], objects[on]);
    return typeof owner[name] === "function" ? await owner[name](...given.map(decode)) : owner[name];
}

async function answer(line) {
    const { id, ...call } = JSON.parse(line);
    try {
        say({ id, value: encode(await run(call)) });
    } catch (error) {
        say({ id, error: error?.message ?? String(error) });
    }
}

// Calls run beside each other: one may wait for what the next one does.
for await (const line of createInterface({ input: process.stdin })) {
    answer(line);
}
// The test has ended, maybe without closing its browsers.
process.exit();
