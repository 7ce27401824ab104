// @tus/server with its file store: `node tus_server.mjs MODULES PORT DIRECTORY`.
import { createRequire } from "node:module";

const [modules, port, directory] = process.argv.slice(2);
const load = createRequire(`${modules}/package.json`);
const { Server } = await import(load.resolve("@tus/server"));
const { FileStore } = await import(load.resolve("@tus/file-store"));

new Server({ path: "/uploads", datastore: new FileStore({ directory }) }).listen({ host: "127.0.0.1", port });
