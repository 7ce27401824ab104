// @ts-check
import { apply } from "./text.js";

/** The URL of the service, whatever the prefix under which it is mounted. */
export const base = new URL("../../", import.meta.url);

apply(document);
