// The script of tests/support/uppy.py: offers the page an upload by Uppy.
import Uppy from "@uppy/core";
import Tus from "@uppy/tus";
import XHRUpload from "@uppy/xhr-upload";

// Takes the files of an input, uploads them, and keeps in `window.seen` what happens.
window.upload = (input, endpoint, options = {}) => {
    const seen = { offsets: [], result: null, progress: 0, error: null };
    const uppy = new Uppy({ allowMultipleUploadBatches: true });
    uppy.use(Tus, {
        endpoint,
        ...options,
        onBeforeRequest(request) {
            if (request.getMethod() === "PATCH") {
                seen.offsets.push(Number(request.getHeader("Upload-Offset")));
            }
        },
    });
    uppy.on("upload-progress", (_, progress) => {
        seen.progress = progress.bytesUploaded;
    });
    uppy.on("upload-success", (_, response) => {
        const answer = response.body.xhr;
        seen.result = {
            url: response.uploadURL,
            blob: answer.getResponseHeader("Content-Location"),
            digest: answer.getResponseHeader("Repr-Digest"),
        };
    });
    uppy.on("upload-error", (_, error) => {
        seen.error = String(error);
    });
    for (const file of input.files) {
        uppy.addFile({ name: file.name, type: file.type, data: file });
    }
    uppy.upload();
    window.seen = seen;
    window.uppy = uppy;
};

// Sends the files of an input in forms, and keeps in `window.seen` what happens.
window.sendForms = async (input, endpoint, options = {}) => {
    const seen = { stored: [], failed: [], ended: false };
    window.seen = seen;
    const uppy = new Uppy();
    uppy.use(XHRUpload, { endpoint, ...options });
    uppy.on("upload-success", (file, response) => {
        seen.stored.push({ name: file.name, status: response.status, body: response.body });
    });
    uppy.on("upload-error", (file, error, response) => {
        seen.failed.push({ name: file.name, status: response?.status, error: String(error) });
    });
    for (const file of input.files) {
        uppy.addFile({ name: file.name, type: file.type, data: file });
    }
    try {
        await uppy.upload();
    } catch (error) {
        seen.error = String(error); // as the upload of a whole form that failed ends
    }
    seen.ended = true;
};
