// @ts-check

// Fewer announcements than this would interrupt what a screen reader is reading.
const PAUSE = 3000;
// Long enough to be read by whoever finds the region by hand, too short to be met as news.
const KEPT = 15000;

/** @type {(() => string)[]} */
let waiting = [];
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;
let last = -Infinity;

/**
 * Tell screen readers something, soon and politely; what comes close together is said in one go.
 *
 * @param {() => string} make
 */
export function say(make) {
    waiting.push(make);
    if (waiting.length === 1) {
        clearTimeout(timer);
        // Not at once: what happens together should be heard together.
        timer = setTimeout(speak, Math.max(150, last + PAUSE - performance.now()));
    }
}

function speak() {
    const region = /** @type {HTMLElement} */ (document.getElementById("spoken"));
    // More than a few sentences in one go are not listened to.
    const sentences = [...new Set(waiting.map((make) => make()))].slice(-3);
    waiting = [];
    last = performance.now();
    region.textContent = sentences.join(" ");
    timer = setTimeout(() => {
        region.textContent = "";
    }, KEPT);
}
