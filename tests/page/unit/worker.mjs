// Runs a module worker of the page in a thread.

import { registerHooks } from "node:module";
import { parentPort, workerData } from "node:worker_threads";

// Browsers have no CommonJS: there these files set a global, as they do in a module.
registerHooks({
    load: (url, context, next) => next(url, url.includes("/vendor/") ? { ...context, format: "module" } : context),
});
globalThis.postMessage = (data) => parentPort.postMessage(data);
globalThis.addEventListener = (_, listen) => parentPort.on("message", (data) => listen({ data }));
await import(workerData);
