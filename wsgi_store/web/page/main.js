// @ts-check
import { Access } from "./access.js";
import { Service } from "./api.js";
import { Device } from "./device.js";
import { takeFiles } from "./gather.js";
import { removeLinesOfDeleted, resultLine } from "./line.js";
import { shownName } from "./names.js";
import { notify } from "./parts.js";
import { showQueue } from "./queue-view.js";
import { Queue } from "./queue.js";
import { RememberedView } from "./remembered.js";
import { say, speakOf } from "./say.js";
import { offerDoors } from "./share.js";
import { StoredView } from "./stored.js";
import { apply, offerLanguages, percent, size, t, write } from "./text.js";
import { TicketPage } from "./ticket.js";

// Adding thousands of files in one go would stop the page for a moment.
const AT_ONCE = 250;
// Milliseconds between looks into a store to which files are being added.
const LIST_EVERY = 3000;
/** @type {Record<string, string>} */
const ALGORITHMS = { md5: "MD5", sha1: "SHA-1", sha256: "SHA-256", sha512: "SHA-512", blake2b: "BLAKE2b", blake3: "BLAKE3" };

/** @param {string} id @returns {any} */
const part = (id) => document.getElementById(id);

// The URL of the service, whatever the prefix under which it is mounted.
const service = new Service(new URL("../../", import.meta.url), JSON.parse(part("service").textContent));
const device = new Device(service.base);
const access = new Access(service);
const queue = new Queue(service, device);
const around = { service, device, access };
const ticket = new URLSearchParams(location.search).get("ticket");
/** @type {TicketPage | null} */
let ticketPage = null;

/** @param {AsyncIterable<import("./gather.js").Found>} found */
async function take(found) {
    /** @type {{file: File, name: string}[]} */
    let batch = [];
    const unreadable = [];
    let count = 0;
    for await (const { file, name } of found) {
        if (file === null) {
            unreadable.push(name);
            continue;
        }
        batch.push({ file, name });
        count++;
        if (batch.length === AT_ONCE && ticketPage === null) {
            queue.add(batch);
            batch = [];
            await new Promise((resolve) => setTimeout(resolve));
        }
    }
    if (unreadable.length > 0) {
        const name = shownName(unreadable[0]);
        notify(() => t("add.unreadable", { count: unreadable.length, name }), "bad");
    } else if (count === 0) {
        notify(() => t("add.empty"));
    }
    if (count > 0 && (ticketPage === null || ticketPage.takes(count))) {
        queue.add(batch);
        say(() => t("add.added", { count }));
    }
}

const isUnderWay = () => queue.totals.done + queue.totals.failed < queue.totals.count;

/** @param {BeforeUnloadEvent} event */
function ask(event) {
    // The last file may have ended since the totals were told.
    if (isUnderWay()) {
        event.preventDefault();
    }
}

function showProgress() {
    const { failed, bytes, sent } = queue.totals;
    const title = t("page.title");
    if (isUnderWay()) {
        document.title = t("page.progress", { percent: percent(bytes > 0 ? sent / bytes : 0), title });
        // Browsers cannot keep a page for going back that always listens.
        addEventListener("beforeunload", ask);
    } else {
        document.title = failed > 0 ? t("page.failed", { count: failed, title }) : title;
        removeEventListener("beforeunload", ask);
    }
}

function describe() {
    const { algorithm, limits, read_only: isReadOnly } = service.description;
    part("add").hidden = isReadOnly || (ticketPage?.isClosed ?? false);
    part("read-only").hidden = !isReadOnly;
    part("limits").hidden = limits.max_size === null;
    part("needs-token").hidden = service.may("write");
    write(part("limits"), () => t("add.limit", { size: size(limits.max_size) }));
    write(part("named"), () => t("foot.named", { algorithm: ALGORITHMS[algorithm] ?? algorithm }));
}

function showStore() {
    const remembered = new RememberedView(around);
    const stored = new StoredView(around);
    part("queue").after(remembered.element, stored.element);
    offerDoors(part("access"), around);
    removeLinesOfDeleted(around);
    access.addEventListener("changed", describe);
    let since = Date.now();
    let listed = { done: 0, time: 0 };
    queue.addEventListener("totals", () => {
        const { done } = queue.totals;
        // What has left the queue is not counted any more.
        listed.done = Math.min(listed.done, done);
        // Small files may have ended before they are counted for the first time.
        const hasEnded = done > listed.done && !isUnderWay();
        since = done === 0 ? Date.now() : since;
        remembered.leaveOut(done === 0 ? Infinity : since);
        // What somebody is about to press stays where it is.
        const isTime = done > listed.done && performance.now() - listed.time > LIST_EVERY && stored.isWhole;
        if (isTime || (hasEnded && !stored.element.contains(document.activeElement))) {
            listed = { done, time: performance.now() };
            void stored.load();
        }
    });
    void remembered.load();
    void access.restore().then(() => stored.load());
}

apply(document);
describe();
offerLanguages(showProgress, () => notify(() => t("language.failed"), "bad"));
takeFiles(take, () => !part("add").hidden);
showQueue(part("queue"), queue, {
    pausable: "uploads" in service.description.links,
    result: ({ result, hash, held, name, size: bytes }) => resultLine(
        { hash: result?.hash ?? "", name, size: bytes, compared: hash !== null, created: !held }, around),
});
speakOf(queue);
queue.addEventListener("totals", showProgress);
device.addEventListener("gone", (event) => {
    const { detail } = /** @type {CustomEvent<string>} */ (event);
    queue.uploads.filter(({ result }) => result?.hash === detail).forEach((upload) => queue.cancel(upload));
});
queue.addEventListener("needs-token", async () => {
    if (await access.ask("write")) {
        queue.retryRefused();
    }
});
if (ticket === null) {
    showStore();
} else {
    service.credentials.ticket = ticket;
    ticketPage = new TicketPage(service, queue);
    void ticketPage.check().then(describe);
}
