// Runs @tus/server: `node peer.mjs DIRECTORY [PORT [LARGEST]]`; by default on a free port, which it prints.
// LARGEST is the size of the largest file in bytes.
import { FileStore } from "@tus/file-store";
import { Server } from "@tus/server";

const [directory, port = "0", largest = "0"] = process.argv.slice(2);
const tus = new Server({
    path: "/uploads",
    relativeLocation: true,
    maxSize: Number(largest),
    datastore: new FileStore({ directory, expirationPeriodInMilliseconds: 86_400_000 }),
});
const listening = tus.listen({ host: "127.0.0.1", port: Number(port) }, () => {
    console.log(`listening on http://127.0.0.1:${listening.address().port}/uploads`);
});
