// @ts-check
import { t } from "./text.js";

/**
 * A file to upload. `file` is null where the browser could not read it, or the folder of that name.
 *
 * @typedef {{file: File | null, name: string}} Found
 */

/**
 * Yield every file of a drop, a paste or a chooser. A file in a folder has its path in its name.
 *
 * Call it within the event: a browser empties a drop as soon as its handlers have returned.
 *
 * @param {DataTransfer | FileList} source
 * @returns {AsyncGenerator<Found>}
 */
export function gather(source) {
    if (source instanceof FileList) {
        return files([...source]);
    }
    const items = [...source.items].filter((item) => item.kind === "file");
    const taken = items.map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
    // A file of the clipboard may have no entry.
    return taken.length > 0 ? walk(taken) : files([...source.files]);
}

/** @param {File[]} list @param {string} [name] @returns {AsyncGenerator<Found>} */
async function* files(list, name) {
    for (const file of list) {
        yield { file, name: name ?? (file.webkitRelativePath || file.name) };
    }
}

/** @param {(FileSystemEntry | File | null)[]} taken @returns {AsyncGenerator<Found>} */
async function* walk(taken) {
    // Not recursive: folders may be nested deeper than generators.
    const ahead = taken.reverse();
    while (ahead.length > 0) {
        const entry = ahead.pop();
        if (!entry) {
            continue;
        }
        if (entry instanceof File) {
            yield { file: entry, name: entry.name };
            continue;
        }
        const name = entry.fullPath.replace(/^\//, "");
        try {
            if (entry.isDirectory) {
                // One by one: a call cannot have as many arguments as a folder may have files.
                for (const child of (await children(/** @type {FileSystemDirectoryEntry} */ (entry))).reverse()) {
                    ahead.push(child);
                }
            } else {
                const file = await new Promise((resolve, reject) => {
                    /** @type {FileSystemFileEntry} */ (entry).file(resolve, reject);
                });
                yield { file, name };
            }
        } catch {
            yield { file: null, name };
        }
    }
}

/** @param {FileSystemDirectoryEntry} folder @returns {Promise<FileSystemEntry[]>} */
async function children(folder) {
    const reader = folder.createReader();
    const found = [];
    // Chromium hands out a hundred at a time.
    for (;;) {
        /** @type {FileSystemEntry[]} */
        const some = await new Promise((resolve, reject) => {
            reader.readEntries(resolve, reject);
        });
        if (some.length === 0) {
            return found;
        }
        for (const one of some) {
            found.push(one);
        }
    }
}

/**
 * What was pasted: its text as a file, or its files, of which a picture may need a name.
 *
 * @param {DataTransfer} clipboard
 * @param {{picture: (time: string) => string, text: (time: string) => string}} names of what has none
 * @returns {AsyncGenerator<Found> | null} null if there is nothing to upload
 */
export function pasted(clipboard, names) {
    const now = new Date();
    const local = new Date(now.getTime() - now.getTimezoneOffset() * 60_000);
    // Windows allows no colon in a name.
    const time = local.toISOString().slice(0, 19).replace("T", " ").replaceAll(":", ".");
    const text = clipboard.getData("text/plain");
    const [first, ...others] = clipboard.files;
    // Browsers call every picture of a clipboard image.png. Office programs add a picture of copied text.
    const isPicture = first !== undefined && others.length === 0 && /^image\.\w+$/.test(first.name);
    if (first !== undefined && !isPicture) {
        return gather(clipboard);
    }
    if (text !== "") {
        const name = `${names.text(time)}.txt`;
        return files([new File([text], name, { type: "text/plain" })]);
    }
    return isPicture ? files([first], `${names.picture(time)}.${first.name.split(".").pop()}`) : null;
}

/** @typedef {(found: AsyncIterable<Found>) => Promise<void>} Take */

/** @param {string} id @returns {any} */
const part = (id) => document.getElementById(id);

/**
 * Take files from the choosers, from the clipboard and from what is dropped anywhere on the page.
 *
 * @param {Take} take
 * @param {() => boolean} accepts whether files can be added now
 */
export function takeFiles(take, accepts) {
    takeChosen(take);
    takePasted(take, accepts);
    takeDropped(take, accepts);
}

/** @param {Take} take */
function takeChosen(take) {
    for (const [chooser, input] of [[part("choose-files"), part("files")], [part("choose-folder"), part("folder")]]) {
        chooser.addEventListener("click", () => input.click());
        input.addEventListener("change", () => {
            const found = gather(input.files);
            // The same file can be chosen again.
            input.value = "";
            void take(found);
        });
    }
    // Whoever sees a large field clicks into it.
    part("add").addEventListener("click", (/** @type {MouseEvent} */ { target }) => {
        // The choosers themselves are within it.
        if (target instanceof Element && !target.closest("button, form, input")) {
            part("files").click();
        }
    });
    part("choose-folder").hidden = !("webkitdirectory" in HTMLInputElement.prototype);
}

/** @param {Take} take @param {() => boolean} accepts */
function takePasted(take, accepts) {
    addEventListener("paste", ({ clipboardData, target }) => {
        const isField = target instanceof Element && target.closest("input, textarea, dialog");
        const found = clipboardData && !isField && accepts() ? pasted(clipboardData, {
            picture: (time) => t("add.picture", { time }),
            text: (time) => t("add.text", { time }),
        }) : null;
        if (found !== null) {
            void take(found);
        }
    });
}

/** @param {Take} take @param {() => boolean} accepts */
function takeDropped(take, accepts) {
    const overlay = part("overlay");
    /** @param {boolean} is */
    const show = (is) => {
        if (is !== overlay.matches(":popover-open")) {
            overlay.togglePopover(is);
        }
    };
    /** @param {DragEvent} event */
    const over = (event) => {
        // Words and links are dropped into fields.
        if (event.dataTransfer?.types.includes("Files")) {
            event.preventDefault();
            event.dataTransfer.dropEffect = accepts() ? "copy" : "none";
            show(accepts());
        }
    };
    addEventListener("dragenter", over);
    addEventListener("dragover", over);
    addEventListener("dragleave", (event) => {
        if (event.relatedTarget === null) {
            show(false);
        }
    });
    addEventListener("drop", (event) => {
        show(false);
        // Otherwise the browser would leave the page for the file.
        if (event.dataTransfer?.types.includes("Files")) {
            event.preventDefault();
            if (accepts()) {
                void take(gather(event.dataTransfer));
            }
        }
    });
}
