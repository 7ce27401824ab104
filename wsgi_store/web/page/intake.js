// @ts-check
import { gather, pasted } from "./gather.js";
import { t } from "./text.js";

/** @typedef {(found: AsyncIterable<import("./gather.js").Found>) => Promise<void>} Take */

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
