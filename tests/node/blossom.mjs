// One request to a Blossom server with blossom-client-sdk, signed by nostr-tools:
//
//     node blossom.mjs SERVER SECRET upload PATH TYPE
//     node blossom.mjs SERVER SECRET download SHA256 PATH
//     node blossom.mjs SERVER SECRET delete SHA256
//     node blossom.mjs SERVER SECRET list
//
// SECRET is a private key in hex. Prints the result, or the status and the reason of a refusal, as JSON.
import { readFile, writeFile } from "node:fs/promises";
import { Actions, createDeleteAuth, createDownloadAuth, createListAuth, createUploadAuth } from "blossom-client-sdk";
import { finalizeEvent, getPublicKey } from "nostr-tools/pure";

const [server, secret, verb, ...more] = process.argv.slice(2);
const key = Uint8Array.from(Buffer.from(secret, "hex"));
const sign = async (draft) => finalizeEvent(draft, key);

async function upload(path, type) {
    const file = new File([await readFile(path)], path, { type });
    const onAuth = (_, sha256) => createUploadAuth(sign, sha256, { servers: server });
    return Actions.uploadBlob(server, file, { onAuth });
}

async function download(hash, path) {
    const onAuth = () => createDownloadAuth(sign, [server, hash]);
    const response = await Actions.downloadBlob(server, hash, { onAuth });
    await writeFile(path, Buffer.from(await response.arrayBuffer()));
    return { type: response.headers.get("Content-Type") };
}

async function remove(hash) {
    const onAuth = () => createDeleteAuth(sign, hash, { servers: server });
    return Actions.deleteBlob(server, hash, { onAuth });
}

async function list() {
    const onAuth = () => createListAuth(sign);
    return Actions.listBlobs(server, getPublicKey(key), { onAuth });
}

const actions = { upload, download, delete: remove, list };
try {
    console.log(JSON.stringify({ result: await actions[verb](...more) }));
} catch (error) {
    console.log(JSON.stringify({ status: error.status, reason: error.message }));
}
