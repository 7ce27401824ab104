// Uploads a file with tus-js-client: `node upload.mjs JOB`, where JOB is JSON. Prints an event a line as JSON.
//
// version:  the major version of tus-js-client
// path:     the file
// stream:   pass it as a stream of unknown length
// storage:  a file that remembers the URLs of uploads
// resume:   go on with the upload of this file in the storage
// patience: how many retries, and `delay`, the milliseconds before each; by default those of the client
// stop:     abort and delete the upload after this many bytes
// options:  further options of the client
import { createReadStream } from "node:fs";
import { PassThrough } from "node:stream";

const job = JSON.parse(process.argv[2]);
const tus = await import(job.version === 4 ? "tus-js-client" : "tus-js-client-5");
const { FileUrlStorage } = job.version === 4 ? tus : await import("tus-js-client-5/node/FileUrlStorage");

function tell(event, more = {}) {
    process.stdout.write(JSON.stringify({ event, ...more }) + "\n");
}

function fields(response) {
    return response?.getUnderlyingObject()?.headers ?? {};
}

let told = 0;
const options = {
    ...job.options,
    onBeforeRequest(request) {
        const offset = request.getHeader("Upload-Offset");
        tell("request", { method: request.getMethod(), url: request.getURL(), offset: Number(offset ?? 0) });
    },
    onAfterResponse(_, response) {
        tell("response", { status: response.getStatus(), fields: fields(response) });
    },
    async onProgress(sent) {
        if (job.stop && sent >= job.stop) {
            job.stop = 0;
            await upload.abort(true);
            tell("removed");
        }
        if (sent - told >= 1 << 20) {
            told = sent;
            tell("progress", { sent });
        }
    },
    onSuccess(payload) {
        tell("success", { url: upload.url, fields: fields(payload?.lastResponse) });
    },
    onError(error) {
        const status = error.originalResponse?.getStatus() ?? 0;
        tell("error", { message: String(error), status });
        process.exitCode = 1;
    },
};
if (job.storage) {
    options.urlStorage = new FileUrlStorage(job.storage);
}
if (job.patience) {
    options.retryDelays = Array(job.patience).fill(job.delay);
}
const file = createReadStream(job.path);
const upload = new tus.Upload(job.stream ? file.pipe(new PassThrough()) : file, options);
if (job.resume) {
    const [previous] = await upload.findPreviousUploads();
    tell("previous", { url: previous.uploadUrl });
    upload.resumeFromPreviousUpload(previous);
}
upload.start();
