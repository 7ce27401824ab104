// @ts-check
import { resultLine } from "./line.js";
import { shownName } from "./names.js";
import { button, focusOn, hasFocus, make, worded } from "./parts.js";
import { say } from "./say.js";
import { t, write } from "./text.js";

/** @typedef {import("./device.js").Remembered} Remembered */

const PAGE = 10;
const PAUSE = 500;

/** What was uploaded from this device, newest first, to be found again and to be forgotten. */
export class RememberedView {
    /** @param {import("./line.js").Around} around */
    constructor(around) {
        this.around = around;
        this.wanted = PAGE;
        // Milliseconds since the epoch: what was uploaded since then stands above, among the uploads.
        this.before = Infinity;
        /** @type {Map<string, HTMLElement>} */
        this.lines = new Map();
        this.list = make("ul", "files");
        this.more = button({ icon: "more", label: () => t("remembered.more"), words: true, does: "more",
            onClick: () => this.showMore() });
        this.head = make("div", "panel-head");
        const heading = worded("h2", "remembered.title");
        heading.id = "remembered-title";
        heading.tabIndex = -1;
        this.heading = heading;
        this.forget = button({ icon: "trash", label: () => t("remembered.forget_all"), words: true, does: "forget-all",
            onClick: () => this.ask() });
        this.head.append(heading, this.forget);
        this.element = make("section", "panel remembered", this.head, worded("p", "remembered.why", "muted"), this.list,
            make("div", "pages", this.more));
        this.element.setAttribute("aria-labelledby", heading.id);
        this.element.hidden = true;
        /** @type {ReturnType<typeof setTimeout> | undefined} */
        let timer;
        // A thousand uploads are drawn a few times, not a thousand times.
        around.device.addEventListener("changed", () => {
            timer ??= setTimeout(() => {
                timer = undefined;
                this.load();
            }, PAUSE);
        });
        around.access.addEventListener("changed", () => {
            this.lines.clear();
            this.load();
        });
    }

    /** Draw what is remembered now; what is shown already stays as it is. */
    async load() {
        const before = this.before === Infinity ? undefined : { hash: "", name: "", size: 0, time: this.before };
        const found = await this.around.device.list({ before, limit: this.wanted + 1 });
        const wanted = new Map(found.slice(0, this.wanted).map((one) => [keyOf(one), one]));
        /** @type {HTMLElement} */ (this.more.parentElement).hidden = found.length <= this.wanted;
        const shown = [...this.lines].filter(([, line]) => line.isConnected).map(([key]) => key);
        if (shown.join() !== [...wanted.keys()].join()) {
            const hadFocus = hasFocus(this.list);
            const lines = [...wanted].map(([key, one]) => /** @type {[string, HTMLElement]} */ (
                [key, this.lines.get(key) ?? this.line(one)]));
            this.lines = new Map(lines);
            this.list.replaceChildren(...this.lines.values());
            this.element.hidden = lines.length === 0;
            if (hadFocus) {
                focusOn(this.heading);
            }
        }
    }

    /** Leave out what was uploaded since a time, in milliseconds since the epoch. @param {number} time */
    leaveOut(time) {
        if (this.before !== time) {
            this.before = time;
            void this.load();
        }
    }

    async showMore() {
        this.wanted += 5 * PAGE;
        const shown = this.list.childElementCount;
        await this.load();
        // Reading goes on where the list ended.
        /** @type {HTMLElement | null} */ (this.list.children[shown]?.querySelector("a, button"))?.focus();
    }

    /** @param {Remembered} one */
    line({ hash, name, size, time }) {
        const line = resultLine({ hash, name, size, time: time / 1000 }, this.around);
        const forget = button({
            icon: "close",
            label: () => t("remembered.forget", { name: shownName(name) }),
            does: "forget",
            onClick: async () => {
                await this.around.device.forget(hash, name);
                say(() => t("remembered.forgotten"));
            },
        });
        line.lastElementChild?.append(forget);
        return line;
    }

    /** Ask once whether to forget everything. */
    ask() {
        const back = () => {
            this.head.replaceChildren(this.heading, this.forget);
            this.forget.focus();
        };
        const yes = button({ icon: "trash", label: () => t("remembered.forget_now"), words: true, kind: "danger",
            does: "forget-now",
            onClick: async () => {
                back();
                await this.around.device.forgetAll();
                say(() => t("remembered.forgotten"));
            } });
        const no = button({ icon: "close", label: () => t("line.keep"), words: true, does: "keep", onClick: back });
        const group = make("div", "ask", worded("span", "remembered.sure"), yes, no);
        group.setAttribute("role", "group");
        write(group, () => t("remembered.sure"), "label");
        this.head.replaceChildren(this.heading, group);
        no.focus();
    }
}

/** @param {Remembered} one */
function keyOf({ hash, name, time }) {
    return JSON.stringify([hash, name, time]);
}
