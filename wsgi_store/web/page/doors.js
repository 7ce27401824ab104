// @ts-check

import { button } from "./parts.js";
import { shareTicket } from "./share.js";
import { t } from "./text.js";

/**
 * Offer in the head of the page what only some need: a token, and asking somebody for a file.
 *
 * @param {HTMLElement} place
 * @param {import("./line.js").Around} around
 */
export function offerDoors(place, { service, access }) {
    const ask = button({ icon: "upload", label: () => t("share.ticket"), words: true, kind: "quiet", does: "ticket",
        onClick: () => shareTicket(service) });
    const token = button({ icon: "key", label: () => t("access.token"), words: true, kind: "quiet", does: "token",
        onClick: () => access.ask() });
    const draw = () => {
        ask.hidden = !(service.may("link") && service.may("write"));
        token.hidden = !access.isUseful;
    };
    place.append(ask, token);
    access.addEventListener("changed", draw);
    draw();
}
