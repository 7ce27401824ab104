// What tests/support/audits.py looks at in a page, beside what axe-core finds.
globalThis.looks = (() => {
    // A screen reader's words, and what is not there.
    const isSeen = (element) => element.checkVisibility({ visibilityProperty: true, opacityProperty: true })
        && getComputedStyle(element).clipPath !== "inset(50%)";
    const name = (element) => {
        const words = element.getAttribute("aria-label") ?? element.textContent ?? "";
        const own = element.dataset.do ?? element.id ?? "";
        const about = [element.tagName.toLowerCase(), own, element.className].filter(Boolean).join(".");
        return `${about} “${words.trim().slice(0, 40)}”`;
    };
    // A dialog covers the rest.
    const scope = () => document.querySelector("dialog[open]") ?? document.body;
    const seen = (selector) => [...scope().querySelectorAll(selector)].filter(isSeen);
    const targets = () => seen("a[href], button, input, select, summary, [tabindex='0']");

    /** What is wider than the window. */
    function scrolling() {
        const { scrollWidth, clientWidth } = document.documentElement;
        const wide = seen("*").filter((element) => {
            const { left, right } = element.getBoundingClientRect();
            return right > clientWidth + 1 || left < -1;
        });
        return scrollWidth > clientWidth ? wide.slice(-3).map(name).concat(`${scrollWidth} > ${clientWidth}`) : [];
    }

    /** Targets smaller than this; links within text may be as high as a line of it. */
    function small(least, lines) {
        return targets().flatMap((element) => {
            const area = (element.labels?.[0] && element.type === "checkbox" ? element.labels[0] : element)
                .getBoundingClientRect();
            const isText = element.matches("a:not(.button), [tabindex]");
            const wanted = isText ? lines : least;
            const isSmall = area.height < wanted - 0.5 || (!isText && area.width < wanted - 0.5);
            return isSmall ? [`${name(element)} ${area.width.toFixed(1)}×${area.height.toFixed(1)}`] : [];
        });
    }

    /** Text that is cut off by what it lies in; what ends in an ellipsis can be copied. */
    function cut() {
        return seen("*").filter((element) => {
            const style = getComputedStyle(element);
            const isCutting = [style.overflowX, style.overflowY].some((one) => ["hidden", "clip"].includes(one));
            return isCutting && style.textOverflow !== "ellipsis" && element.innerText?.trim()
                && (element.scrollWidth > element.clientWidth + 1 || element.scrollHeight > element.clientHeight + 1);
        }).map(name);
    }

    /** Texts that lie over each other. */
    function overlapping() {
        const found = [];
        const walk = document.createTreeWalker(scope(), NodeFilter.SHOW_TEXT);
        for (let text = walk.nextNode(); text !== null; text = walk.nextNode()) {
            const parent = text.parentElement;
            if (text.data.trim() && isSeen(parent) && !parent.closest("[popover], .summary, script, noscript")) {
                const range = new Range();
                range.selectNodeContents(text);
                found.push(...[...range.getClientRects()].map((area) => ({ area, parent })));
            }
        }
        const hits = [];
        for (const [index, { area: a, parent: one }] of found.entries()) {
            for (const { area: b, parent: other } of found.slice(index + 1)) {
                const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
                const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
                // Boxes of lines are higher than their letters.
                if (one !== other && across > 2 && down > Math.min(a.height, b.height) / 3) {
                    hits.push(`${name(one)} over ${name(other)}`);
                }
            }
        }
        return hits;
    }

    /** Paragraphs of several lines, with more characters in each than this. */
    function long(most) {
        return seen("p, dd, li, h1, h2").filter((element) => {
            const range = new Range();
            range.selectNodeContents(element);
            const lines = new Set([...range.getClientRects()].map(({ bottom }) => Math.round(bottom))).size;
            return lines > 1 && element.children.length < 3 && element.innerText.length / lines > most;
        }).map(name);
    }

    /** Animations that run. */
    const moving = () => document.getAnimations().filter(({ playState }) => playState === "running")
        .map(({ effect }) => name(effect.target));

    const channels = (colour) => (colour.match(/[\d.]+/g) ?? []).map(Number);
    function luminance(colour) {
        const [red, green, blue] = channels(colour).map((one) => {
            const part = one / 255;
            return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    }
    function contrast(one, other) {
        const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
        return (light + 0.05) / (dark + 0.05);
    }
    function background(element) {
        for (let under = element; under !== null; under = under.parentElement) {
            const colour = getComputedStyle(under).backgroundColor;
            if ((channels(colour)[3] ?? 1) === 1) {
                return colour;
            }
        }
        return "rgb(255, 255, 255)";
    }

    /** What is wrong with how the element in focus shows it; "" if nothing has it. */
    function focus() {
        const element = document.activeElement;
        if (element === null || element === document.body) {
            return "";
        }
        const style = getComputedStyle(element);
        const outline = parseFloat(style.outlineWidth);
        const area = element.getBoundingClientRect();
        const over = document.elementFromPoint(area.left + area.width / 2, area.top + Math.min(area.height, innerHeight) / 2);
        const faults = [];
        if (!element.matches(":focus-visible") || style.outlineStyle === "none" || outline < 2) {
            faults.push("no outline");
        } else if (contrast(style.outlineColor, background(element.parentElement)) < 3) {
            faults.push(`outline ${style.outlineColor} on ${background(element.parentElement)}`);
        }
        if (over === null || !(element.contains(over) || over.contains(element))) {
            faults.push(`behind ${over && name(over)}`);
        }
        for (let around = element.parentElement; around !== null; around = around.parentElement) {
            const frame = around.getBoundingClientRect();
            const isCut = ["hidden", "clip"].includes(getComputedStyle(around).overflowX)
                && (area.left - outline < frame.left || area.right + outline > frame.right
                    || area.top - outline < frame.top || area.bottom + outline > frame.bottom);
            if (isCut) {
                faults.push(`cut off by ${name(around)}`);
            }
        }
        return `${name(element)}: ${faults.join(", ")}`;
    }

    // Nobody can look at what a browser has not laid out.
    const all = new CSSStyleSheet();
    all.replaceSync("* { content-visibility: visible !important; }");
    document.adoptedStyleSheets = [all];

    /** The spacing that readers may set themselves (WCAG 1.4.12). */
    function space(isWide) {
        const sheet = new CSSStyleSheet();
        sheet.replaceSync(isWide ? `* { line-height: 1.5 !important; letter-spacing: 0.12em !important;
            word-spacing: 0.16em !important; } p { margin-bottom: 2em !important; }` : "");
        document.adoptedStyleSheets = [all, sheet];
    }

    return { scrolling, small, cut, overlapping, long, moving, focus, space, targets: () => targets().length };
})();
